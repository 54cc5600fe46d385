"""Build a plan: from an ONNX graph to `model.plan` and its manifest."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from vireo_client.errors import ExportError, MissingExtraError
from vireo_client.files import replacing_file
from vireo_client.progress import note, progress_bar
from vireo_serving.plans.manifest import Manifest, adopt_plan, new_plan_file
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.present import present_gpu
from vireo_serving.plans.profiles import Profile
from vireo_serving.plans.recipe import make_recipe

_SECONDS_BETWEEN_LOOKS = 0.2
_ELSEWHERE = (
    "; or build elsewhere: `vireo export --target tensorrt --dry-run` writes the graphs and a "
    "build.sh with the trtexec lines"
)


def build_plan(
    onnx: Path,
    plan: Path,
    profiles: Sequence[Profile],
    options: BuildOptions | None = None,
    *,
    timing_cache: Path | None = None,
    precision: str = "fp16",
) -> Manifest:
    """Build a plan for this machine's GPU and write it with its manifest.

    A build takes minutes. It replaces an older plan and its manifest when the new plan is complete.
    Ctrl-C ends the build at TensorRT's next step, and nothing is written.

    Args:
        onnx: the graph, whose types become the plan's types.
        plan: the file to write, in a folder that exists.
        profiles: the input shapes to support, see `bundle_profiles`.
        options: build options that the operator chose.
        timing_cache: a file that keeps the timings of builds and speeds up the next one. Timings of
            another GPU or TensorRT version are discarded.
        precision: precision of the graph, for the manifest.

    Returns:
        The manifest.

    Raises:
        MissingExtraError: TensorRT's Python package is not installed.
        EngineError: there is no GPU.
        ExportError: there is no graph, TensorRT lacks an operator, or the build fails.
        OSError: the plan cannot be written; the old one stays.
        KeyboardInterrupt: Ctrl-C was pressed; the old plan stays.
    """
    recipe = make_recipe(onnx, plan, profiles, options, precision)
    require_tensorrt()
    gpu = present_gpu()
    from .network import serialize, version

    earlier_timings = timing_cache.read_bytes() if timing_cache and timing_cache.is_file() else b""
    cancelled = threading.Event()
    # The build runs in a thread of its own, so that this one can notice Ctrl-C: a thread that calls
    # TensorRT runs no Python until the call returns. Nor may an interrupt be raised inside one of
    # TensorRT's calls back to Python.
    with progress_bar() as progress, ThreadPoolExecutor(1, "tensorrt") as pool:
        try:
            building = pool.submit(
                serialize,
                onnx,
                recipe.profiles,
                recipe.options,
                timing_cache=earlier_timings,
                progress=progress,
                cancelled=cancelled,
            )
            # A wait without a timeout is not woken by a signal that another thread receives.
            while not wait([building], timeout=_SECONDS_BETWEEN_LOOKS).done:
                pass
        except KeyboardInterrupt:
            cancelled.set()
            note("stopping at TensorRT's next step")
            raise  # leaving the pool waits for the thread
    built = building.result()
    assert built is not None  # only a cancelled build returns None
    serialized, timings = built
    if timing_cache is not None:
        with replacing_file(timing_cache) as file:
            file.write(timings)
    new = new_plan_file(plan)
    try:
        with replacing_file(new) as file:
            file.write(serialized)
        return adopt_plan(plan, recipe, gpu=gpu, tensorrt=version())
    finally:
        new.unlink(missing_ok=True)


def require_tensorrt() -> None:
    """Check that TensorRT can be imported, before any work is done.

    Raises:
        MissingExtraError: its Python package is not installed.
        ExportError: the package is installed, but its libraries do not load.
    """
    try:
        import tensorrt  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise ExportError(f"TensorRT's Python package is incomplete ({error})") from error
        raise MissingExtraError("tensorrt", "gpu", _ELSEWHERE) from None
    except (ImportError, OSError) as error:  # the loader does not find a library
        raise ExportError(
            f"TensorRT's Python package is installed, but does not load ({error}); install the "
            f"libraries of the same version{_ELSEWHERE}"
        ) from error
