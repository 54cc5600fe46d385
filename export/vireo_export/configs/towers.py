"""Configurations of the two towers, for each target."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL

from ..triton_config import ServingOptions, Target
from .parts import (
    add_input,
    add_output,
    batch_dynamically,
    model,
    run_on_cpu,
    run_on_gpu,
    set_parameter,
)


def text_encoder(bundle: BundleConfig, options: ServingOptions, target: Target) -> pb.ModelConfig:
    """INT32 `input_ids` `[N, L]` to FP32 `embedding` `[N, D]`."""
    config = model(TEXT_MODEL, bundle, options)
    add_input(config, "input_ids", pb.TYPE_INT32, -1)
    if target == "cpu":  # the model checks its input with these
        set_parameter(config, "vocab_size", bundle.text.vocab_size)
        set_parameter(config, "max_length", bundle.text.max_length)
    config.response_cache.enable = options.response_cache
    return _finish(config, bundle, options, target)


def image_encoder(bundle: BundleConfig, options: ServingOptions, target: Target) -> pb.ModelConfig:
    """UINT8 `pixels` `[N, 3, H, W]` to FP32 `embedding` `[N, D]`."""
    config = model(IMAGE_MODEL, bundle, options)
    add_input(config, "pixels", pb.TYPE_UINT8, 3, bundle.image.size, bundle.image.size)
    return _finish(config, bundle, options, target)


def _finish(
    config: pb.ModelConfig, bundle: BundleConfig, options: ServingOptions, target: Target
) -> pb.ModelConfig:
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    batch_dynamically(config, options)
    _BACKENDS[target](config, options)
    return config


def _python(config: pb.ModelConfig, options: ServingOptions) -> None:
    """`vireo_models/onnx_tower.py`, which sets its threads when it starts."""
    if options.device != "cpu":
        raise ExportError("target cpu runs on CPUs alone; take --target onnxruntime or tensorrt")
    config.backend = "python"
    set_parameter(config, "threads", options.threads)
    run_on_cpu(config, options.instances)


def _onnxruntime(config: pb.ModelConfig, options: ServingOptions) -> None:
    config.backend = "onnxruntime"
    config.default_model_filename = "model.onnx"
    if options.device == "gpu":
        run_on_gpu(config, options)
        return
    set_parameter(config, "intra_op_thread_count", options.threads)
    set_parameter(config, "inter_op_thread_count", 1)  # a tower is one chain of operators
    run_on_cpu(config, options.instances)


def _tensorrt(config: pb.ModelConfig, options: ServingOptions) -> None:
    config.backend = "tensorrt"
    config.default_model_filename = "model.plan"
    run_on_gpu(config, options)


_BACKENDS = {"cpu": _python, "onnxruntime": _onnxruntime, "tensorrt": _tensorrt}
