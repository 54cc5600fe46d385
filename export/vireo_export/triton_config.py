"""Model configurations, built as Triton's own protobuf messages and written as text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError
from vireo_client.repository import BUNDLE_PARAMETER, IMAGE_MODEL, TEXT_MODEL

CONFIG_FILE = "config.pbtxt"


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """What an operator may set for both towers."""

    max_batch_size: int = 64
    max_queue_delay_us: int = 0
    """How long the dynamic batcher may hold a request to fill a batch, in microseconds. At 0 no
    request waits for others: batches form from what queues up while the instance is busy."""
    threads: int = 0
    """Threads of one inference on target `cpu`; 0 lets ONNX Runtime take all cores."""


def tower_configs(bundle: BundleConfig, options: ServingOptions) -> dict[str, pb.ModelConfig]:
    """Builds the configurations of both towers for target `cpu`.

    Every text bucket and the one picture shape are warmed up, at batch 1 and at the maximum, before
    Triton reports the model ready.
    """
    text = _tower(TEXT_MODEL, "input_ids", pb.TYPE_INT32, [-1], bundle, options)
    for bucket in bundle.text.buckets:
        _warm_up(text, f"bucket-{bucket}", [bucket], options)
    shape = [3, bundle.image.size, bundle.image.size]
    image = _tower(IMAGE_MODEL, "pixels", pb.TYPE_UINT8, shape, bundle, options)
    _warm_up(image, "picture", shape, options)
    return {TEXT_MODEL: text, IMAGE_MODEL: image}


def _tower(
    name: str,
    input_name: str,
    dtype: pb.DataType,
    dims: list[int],
    bundle: BundleConfig,
    options: ServingOptions,
) -> pb.ModelConfig:
    config = pb.ModelConfig(
        name=name,
        backend="python",
        max_batch_size=options.max_batch_size,
        input=[pb.ModelInput(name=input_name, data_type=dtype, dims=dims)],
        output=[
            pb.ModelOutput(name="embedding", data_type=pb.TYPE_FP32, dims=[bundle.embedding_dim])
        ],
        instance_group=[pb.ModelInstanceGroup(count=1, kind=pb.ModelInstanceGroup.KIND_CPU)],
        dynamic_batching=pb.ModelDynamicBatching(
            max_queue_delay_microseconds=options.max_queue_delay_us
        ),
    )
    config.parameters[BUNDLE_PARAMETER].string_value = bundle.bundle_id
    config.parameters["threads"].string_value = str(options.threads)
    return config


def _warm_up(config: pb.ModelConfig, name: str, dims: list[int], options: ServingOptions) -> None:
    for batch in sorted({1, options.max_batch_size}):
        sample = config.model_warmup.add(name=f"{name}-batch-{batch}", batch_size=batch)
        tensor = sample.inputs[config.input[0].name]
        tensor.data_type = config.input[0].data_type
        tensor.dims.extend(dims)
        tensor.zero_data = True


def write_config(config: pb.ModelConfig, folder: Path) -> None:
    """Writes `config.pbtxt` and reads it back, so that what Triton parses is what was meant.

    Raises:
        ExportError: the written text does not give the same message.
    """
    path = folder / CONFIG_FILE
    path.write_text(text_format.MessageToString(config), encoding="utf-8")
    if read_config(path) != config:
        raise ExportError(f"{path}: does not read back as it was written")


def read_config(path: Path) -> pb.ModelConfig:
    """Parses a `config.pbtxt` against Triton's schema.

    Raises:
        ExportError: it does not parse.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    except text_format.ParseError as error:
        raise ExportError(f"{path}: not a Triton model configuration ({error})") from error
