"""What a model's configuration says to Triton's own `tensorrt` backend about profiles and graphs.

The meaning of each field was read in triton-inference-server/tensorrt_backend (instance_state.cc).
"""

from __future__ import annotations

from collections.abc import Sequence

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.errors import ExportError

from ..plans.profiles import Profile


def profile_names(profiles: Sequence[Profile]) -> list[str]:
    """Names a plan's profiles for `instance_group.profile`.

    The backend takes names as places in the plan. Without them it loads the first profile alone,
    and every other bucket fails.
    """
    return [str(number) for number in range(len(profiles))]


def graph_batches(max_batch_size: int) -> tuple[int, ...]:
    """Gives the batch sizes to capture: the powers of two, and the largest."""
    powers = [1 << n for n in range(max_batch_size.bit_length())]
    return tuple(sorted({*powers, max_batch_size}))


def cuda_graphs(
    profiles: Sequence[Profile], batches: Sequence[int] | None = None
) -> pb.ModelOptimizationPolicy:
    """Gives the `optimization` part that replays captured CUDA graphs, one a bucket and batch size.

    A batch between two captured sizes takes the next larger one (`graph_lower_bound`) and what it
    computes too much is dropped: launching kernels one by one costs more than that. Each graph
    takes some megabytes of GPU memory and a moment when the model is loaded.

    The backend tries every graph on every profile. Where a bucket is not the profile's own it logs
    an error while loading ("Failed to set cuda graph shape") and goes on: that is expected.

    Args:
        profiles: the plan's.
        batches: ascending batch sizes; by default `graph_batches` of the largest.

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
