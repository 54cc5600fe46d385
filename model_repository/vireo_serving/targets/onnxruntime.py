"""Target `onnxruntime`: Triton's ONNX Runtime backend, which NVIDIA's image brings.

On GPUs it may run the towers by TensorRT, by configuration alone. The keys are those that
triton-inference-server/onnxruntime_backend reads (its README, "ONNX Runtime with TensorRT
optimization"); it refuses a model with any other. The options behind them are ONNX Runtime's
(TensorRT Execution Provider, "Configurations").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

import typer
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError
from vireo_client.repository import ENGINE_FILE

from ..configs.parts import run_on_cpu, run_on_gpus, set_parameter
from ..configs.triton_config import ServingOptions
from ..plans.options import BuildOptions
from ..plans.profiles import Profile, bundle_profiles, dims, spanning
from .preprocessed import PreprocessedTarget
from .target import check_gpus

Device = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class OnnxRuntime(PreprocessedTarget):
    """Triton's ONNX Runtime backend.

    Raises:
        ExportError: an option is out of range, or does not go with the device.
    """

    name = "onnxruntime"
    summary = "Triton's ONNX Runtime backend in NVIDIA's image, on CPUs or GPUs"
    precisions = ("fp32", "fp16", "int8", "int4")
    engine_suffixes = (".onnx",)
    custom_operators = True

    device: Annotated[Device, typer.Option(help="Where the towers run: cpu or gpu.")] = "cpu"
    gpus: Annotated[
        tuple[int, ...],
        typer.Option(
            "--gpu",
            min=0,
            help="With --device gpu: a GPU that gets instances, repeatable; by default all.",
        ),
    ] = ()
    ort_tensorrt_cache: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="With --device gpu: run the towers by TensorRT and keep its plans there (an "
            "absolute path on the server).",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise ExportError(f"--device is {self.device!r}; it must be cpu or gpu")
        check_gpus(self.gpus)
        for option, value in (("gpu", self.gpus), ("ort-tensorrt-cache", self.ort_tensorrt_cache)):
            if self._on_cpu() and value:
                raise ExportError(
                    f"--{option} is for --device gpu, and this is device cpu; leave it out, or "
                    "choose device gpu"
                )

    def _on_cpu(self) -> bool:
        return self.device == "cpu"

    def _run_tower(
        self, tower: pb.ModelConfig, bundle: BundleConfig, options: ServingOptions, version: int
    ) -> None:
        tower.backend = "onnxruntime"
        tower.default_model_filename = ENGINE_FILE
        if self._on_cpu():
            set_parameter(tower, "intra_op_thread_count", options.threads)
            set_parameter(tower, "inter_op_thread_count", 1)  # a tower is one chain of operators
            run_on_cpu(tower, options.instances)
            return
        run_on_gpus(tower, options.instances, self.gpus)
        if self.ort_tensorrt_cache is not None:
            profiles = bundle_profiles(bundle, options.max_batch_size)[tower.name]
            folder = f"{self.ort_tensorrt_cache}/{bundle.bundle_id}/{tower.name}/{version}"
            tower.optimization.CopyFrom(tensorrt_provider(profiles, bundle.bundle_id, folder))


def tensorrt_provider(
    profiles: Sequence[Profile],
    weights_id: str,
    cache_folder: str,
    options: BuildOptions | None = None,
    *,
    graph: Literal["fp16", "fp32"] = "fp16",
) -> pb.ModelOptimizationPolicy:
    """Return the `optimization` part of a model that ONNX Runtime is to run by TensorRT.

    One profile spans all buckets. ONNX Runtime builds every profile of the configuration, but
    always runs the first, so that with one per bucket every other bucket would fail. (Target
    `tensorrt` has a profile per bucket.) Without any profile, ONNX Runtime would build again, for
    minutes and in the middle of serving, whenever a request widens the range of shapes.

    Plans are built when Triton loads the model, and stay in `cache_folder`. ONNX Runtime names them
    by the structure of the graph and not by its weights (microsoft/onnxruntime issue 6455). A newly
    trained model would then run the old one's plan, so the names begin with `weights_id`.

    Args:
        profiles: the model's profiles, see `bundle_profiles`; all of one input.
        weights_id: a name that changes with the weights, such as the bundle's id.
        cache_folder: folder of plans and timings: an absolute path, as the server sees it.
        options: settings of the builder. Plans stay where they are built, so hardware and version
            compatibility do not matter.
        graph: precision of the graph. A graph in FP16 becomes a strongly typed network and runs as
            it is typed. In one in FP32 TensorRT may choose FP16, except for layer norm.

    Raises:
        ExportError: the folder is not absolute, or the profiles are not of one input.
    """
    if not PurePosixPath(cache_folder).is_absolute():
        raise ExportError(
            f"engine cache {cache_folder}: give an absolute path; a relative one depends "
            "on where Triton is started"
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
