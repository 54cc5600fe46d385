"""TensorRT inside Triton's ONNX Runtime backend, by configuration alone.

The keys are those that triton-inference-server/onnxruntime_backend reads (its README, "ONNX Runtime
with TensorRT optimization"); it refuses a model with any other. The options behind them are ONNX
Runtime's (TensorRT Execution Provider, "Configurations").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.errors import ExportError

from ..plans.options import BuildOptions
from ..plans.profiles import Profile, dims, spanning


def tensorrt_provider(
    profiles: Sequence[Profile],
    weights_id: str,
    cache_folder: str,
    options: BuildOptions | None = None,
    *,
    graph: Literal["fp16", "fp32"] = "fp16",
) -> pb.ModelOptimizationPolicy:
    """Gives the `optimization` part of a model that TensorRT shall run for ONNX Runtime.

    One profile spans all buckets. ONNX Runtime builds as many as it is given, but always runs
    the first, so that with one per bucket every other bucket would fail. A plan per bucket is what
    the `tensorrt` backend is for. Without shapes given, ONNX Runtime would build again, for minutes
    and in the middle of serving, whenever a request widens the range seen so far.

    Plans are built when Triton loads the model, and kept in `cache_folder`. ONNX Runtime names them
    by the structure of the graph and not by its weights (microsoft/onnxruntime issue 6455), so that
    a model trained anew would be answered by the old one's plan: `weights_id` goes in front.

    Args:
        profiles: the model's, see `bundle_profiles`; all of one input.
        weights_id: what changes with the weights, such as the bundle's id.
        cache_folder: absolute path, as the server sees it, where plans and timings are kept.
        options: what the operator chose. Plans stay where they are built, so hardware and version
            compatibility are not asked for.
        graph: what the graph computes in. A graph in FP16 becomes a strongly typed network and is
            run as it is typed. With one in FP32 TensorRT may choose FP16, except for layer norm.

    Raises:
        ExportError: the folder is not absolute, or the profiles are not of one input.
    """
    if not PurePosixPath(cache_folder).is_absolute():
        raise ExportError(
            f"engine cache {cache_folder}: give an absolute path; Triton would take it from "
            "wherever it was started"
        )
    options = options or BuildOptions()
    shapes = spanning(profiles)
    parameters = {
        # FP32 sets no flag, and without one the network is strongly typed.
        "precision_mode": "FP16" if graph == "fp32" else "FP32",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache_folder,
        "trt_engine_cache_prefix": weights_id[:16],
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache_folder,
        "trt_builder_optimization_level": str(options.optimization_level),
        "trt_profile_min_shapes": f"{shapes.input}:{dims(shapes.min)}",
        "trt_profile_opt_shapes": f"{shapes.input}:{dims(shapes.opt)}",
        "trt_profile_max_shapes": f"{shapes.input}:{dims(shapes.max)}",
    }
    if options.workspace_bytes is not None:
        parameters["max_workspace_size_bytes"] = str(options.workspace_bytes)
    policy = pb.ModelOptimizationPolicy()
    accelerator = policy.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    for key, value in parameters.items():
        accelerator.parameters[key] = value
    return policy
