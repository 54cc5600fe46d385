"""Configurations of the two towers, for each target."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL

from ..plans.profiles import bundle_profiles
from ..targets.onnxruntime import tensorrt_provider
from ..targets.tensorrt import cuda_graphs, profile_names
from .parts import (
    add_input,
    add_output,
    add_pixels,
    batch_dynamically,
    model,
    run_on_cpu,
    run_on_gpu,
    set_parameter,
)
from .triton_config import ServingOptions, Target

TEXT_CACHE_MIB = 64
"""On target `cpu`: some 25,000 vectors of 512 numbers."""


def text_encoder(
    bundle: BundleConfig, options: ServingOptions, target: Target, version: int
) -> pb.ModelConfig:
    """INT32 `input_ids` `[N, L]` to FP32 `embedding` `[N, D]`.

    On target `cpu` it takes BYTES `text` `[N, 1]` too, in place of ids, and tells the ids.
    """
    config = model(TEXT_MODEL, bundle, options)
    add_input(config, "input_ids", pb.TYPE_INT32, -1, optional=target == "cpu")
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    if target == "cpu":
        add_input(config, "text", pb.TYPE_STRING, 1, optional=True)
        add_output(config, "input_ids", pb.TYPE_INT32, -1)
        # The model checks its input with these.
        set_parameter(config, "vocab_size", bundle.text.vocab_size)
        set_parameter(config, "max_length", bundle.text.max_length)
        set_parameter(config, "cache_mib", TEXT_CACHE_MIB if options.response_cache else 0)
    else:
        config.response_cache.enable = options.response_cache
    return _finish(config, bundle, options, target, version)


def image_encoder(
    bundle: BundleConfig, options: ServingOptions, target: Target, version: int
) -> pb.ModelConfig:
    """UINT8 `pixels` `[N, 3, H, W]` to FP32 `embedding` `[N, D]`.

    On target `cpu` it takes BYTES `image` `[N, 1]` too, whole files in place of pixels, and tells
    the pixels and what is wrong with each row.
    """
    config = model(IMAGE_MODEL, bundle, options)
    size = bundle.image.size
    add_input(config, "pixels", pb.TYPE_UINT8, 3, size, size, optional=target == "cpu")
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    if target == "cpu":
        add_input(config, "image", pb.TYPE_STRING, 1, optional=True)
        add_pixels(config, size)
    return _finish(config, bundle, options, target, version)


def _finish(
    config: pb.ModelConfig,
    bundle: BundleConfig,
    options: ServingOptions,
    target: Target,
    version: int,
) -> pb.ModelConfig:
    batch_dynamically(config, options)
    if options.ort_tensorrt_cache is not None and (target, options.device) != (
        "onnxruntime",
        "gpu",
    ):
        raise ExportError(
            "ort_tensorrt_cache is for target onnxruntime on device gpu; leave it out, or choose "
            "those"
        )
    if target == "cpu":
        _python(config, options)
    elif target == "onnxruntime":
        _onnxruntime(config, bundle, options, version)
    else:
        _tensorrt(config, bundle, options)
    return config


def _python(config: pb.ModelConfig, options: ServingOptions) -> None:
    """`models/onnx_tower.py`, which sets its threads when it starts."""
    if options.device != "cpu":
        raise ExportError("target cpu runs on CPUs alone; take --target onnxruntime or tensorrt")
    config.backend = "python"
    set_parameter(config, "threads", options.threads)
    run_on_cpu(config, options.instances)


def _onnxruntime(
    config: pb.ModelConfig, bundle: BundleConfig, options: ServingOptions, version: int
) -> None:
    config.backend = "onnxruntime"
    config.default_model_filename = "model.onnx"
    if options.device == "cpu":
        set_parameter(config, "intra_op_thread_count", options.threads)
        set_parameter(config, "inter_op_thread_count", 1)  # a tower is one chain of operators
        run_on_cpu(config, options.instances)
        return
    run_on_gpu(config, options)
    if options.ort_tensorrt_cache is not None:
        profiles = bundle_profiles(bundle, options.max_batch_size)[config.name]
        folder = f"{options.ort_tensorrt_cache}/{bundle.bundle_id}/{config.name}/{version}"
        config.optimization.CopyFrom(tensorrt_provider(profiles, bundle.bundle_id, folder))


def _tensorrt(config: pb.ModelConfig, bundle: BundleConfig, options: ServingOptions) -> None:
    config.backend = "tensorrt"
    config.default_model_filename = "model.plan"
    run_on_gpu(config, options)
    profiles = bundle_profiles(bundle, options.max_batch_size)[config.name]
    config.instance_group[0].profile.extend(profile_names(profiles))
    if options.cuda_graphs:
        config.optimization.CopyFrom(cuda_graphs(profiles))
