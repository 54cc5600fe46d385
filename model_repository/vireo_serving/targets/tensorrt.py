"""Target `tensorrt`: Triton's TensorRT backend, which NVIDIA's image brings. GPUs only.

The meaning of each field about profiles and graphs was read in
triton-inference-server/tensorrt_backend (instance_state.cc).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

import typer
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.errors import ExportError

from ..configs.parts import run_on_gpus
from ..configs.triton_config import ServingOptions
from ..plans.manifest import PLAN_FILE
from ..plans.options import BuildOptions, HardwareCompatibility
from ..plans.profiles import Profile, bundle_profiles
from .preprocessed import PreprocessedTarget
from .target import PlanBuild, check_gpus


@dataclass(frozen=True)
class TensorRT(PreprocessedTarget):
    """Triton's TensorRT backend. It runs plans, which are built from the graphs.

    Raises:
        ExportError: an option is out of range.
    """

    name = "tensorrt"
    summary = "Triton's TensorRT backend in NVIDIA's image, on GPUs"
    precisions = ("fp16", "fp32")
    # A dry run leaves the graphs in the place of the plans, to be built on another machine.
    engine_suffixes = (".plan", ".onnx")
    custom_operators = False  # and TensorRT fuses by itself

    gpus: Annotated[
        tuple[int, ...],
        typer.Option("--gpu", min=0, help="A GPU that gets instances, repeatable; by default all."),
    ] = ()
    cuda_graphs: Annotated[
        bool,
        typer.Option(help="Replay captured CUDA graphs, one for each bucket and batch size."),
    ] = True
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Write graphs, configurations and the trtexec lines, and build nothing; needs no "
            "GPU.",
        ),
    ] = False
    workspace_mb: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most MiB of GPU memory that one layer may use as scratch space; by default all.",
        ),
    ] = None
    builder_level: Annotated[
        int, typer.Option(min=0, max=5, help="How long to search for kernels.")
    ] = 3
    hardware_compatibility: Annotated[
        HardwareCompatibility,
        typer.Option(
            help="none, same_compute_capability or ampere_plus: which other GPUs run the plans."
        ),
    ] = "none"
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Later TensorRT versions load the plans.")
    ] = False

    def __post_init__(self) -> None:
        check_gpus(self.gpus)
        if self.hardware_compatibility not in get_args(HardwareCompatibility):
            raise ExportError(
                f"--hardware-compatibility is {self.hardware_compatibility!r}; it must be one of "
                f"{', '.join(get_args(HardwareCompatibility))}"
            )

    def plan_build(self) -> PlanBuild:
        """Return how plans are built."""
        options = BuildOptions(
            workspace_bytes=self.workspace_mb and self.workspace_mb << 20,
            optimization_level=self.builder_level,
            hardware_compatibility=self.hardware_compatibility,
            version_compatible=self.version_compatible,
        )
        return PlanBuild(options, here=not self.dry_run)

    def _on_cpu(self) -> bool:
        return False

    def _run_tower(
        self, tower: pb.ModelConfig, bundle: BundleConfig, options: ServingOptions, version: int
    ) -> None:
        tower.backend = "tensorrt"
        tower.default_model_filename = PLAN_FILE
        run_on_gpus(tower, options.instances, self.gpus)
        profiles = bundle_profiles(bundle, options.max_batch_size)[tower.name]
        tower.instance_group[0].profile.extend(profile_names(profiles))
        if self.cuda_graphs:
            tower.optimization.CopyFrom(cuda_graph_policy(profiles))


def profile_names(profiles: Sequence[Profile]) -> list[str]:
    """Name a plan's profiles for `instance_group.profile`.

    To the backend a name is the profile's place in the plan. Without names it loads the first
    profile alone, and every other bucket fails.
    """
    return [str(number) for number in range(len(profiles))]


def graph_batches(max_batch_size: int) -> tuple[int, ...]:
    """Return the batch sizes to capture: the powers of two, and the largest."""
    powers = [1 << n for n in range(max_batch_size.bit_length())]
    return tuple(sorted({*powers, max_batch_size}))


def cuda_graph_policy(
    profiles: Sequence[Profile], batches: Sequence[int] | None = None
) -> pb.ModelOptimizationPolicy:
    """Return the `optimization` part that replays captured CUDA graphs.

    There is one graph for each bucket and batch size. A batch between two captured sizes runs in
    the next larger graph (`graph_lower_bound`), and the surplus rows are dropped: launching kernels
    one by one costs more than computing them. Each graph takes some megabytes of GPU memory and a
    moment when the model is loaded.

    The backend tries every graph on every profile. For a bucket of another profile it logs an error
    while loading ("Failed to set cuda graph shape") and goes on: that is expected.

    Args:
        profiles: the plan's profiles.
        batches: ascending batch sizes; by default `graph_batches` of the largest batch.

    Raises:
        ExportError: a batch size is outside a profile, or they do not ascend.
    """
    policy = pb.ModelOptimizationPolicy(cuda=pb.ModelOptimizationPolicy.Cuda(graphs=True))
    for profile in profiles:
        sizes = tuple(batches) if batches is not None else graph_batches(profile.max[0])
        if list(sizes) != sorted(set(sizes)) or not sizes:
            raise ExportError(f"batch sizes of CUDA graphs are {sizes}; they must ascend")
        if sizes[0] < profile.min[0] or sizes[-1] > profile.max[0]:
            raise ExportError(
                f"batch sizes of CUDA graphs are {sizes}, but the profile of {profile.input} has "
                f"{profile.min[0]} to {profile.max[0]}"
            )
        lowest = profile.min[0]
        for size in sizes:
            graph = policy.cuda.graph_spec.add(batch_size=size)
            graph.graph_lower_bound.batch_size = lowest
            # Both without the batch: the backend puts it in front.
            graph.input[profile.input].dim.extend(profile.opt[1:])
            graph.graph_lower_bound.input[profile.input].dim.extend(profile.opt[1:])
            lowest = size + 1
    return policy
