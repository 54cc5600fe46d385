"""Call TensorRT. Import this module only when a plan is built, because it imports TensorRT.

The authors' machines have neither TensorRT's libraries nor a GPU, so this code has never built a
plan. Its tests show that the real Python bindings of 10 and 11 have every name with these
arguments. They also check the order of calls and the handling of each failure that TensorRT
reports.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import tensorrt as trt
from rich.progress import Progress, TaskID
from vireo_client.errors import ExportError
from vireo_serving.plans.options import BuildOptions
from vireo_serving.plans.profiles import Profile

log = logging.getLogger(__name__)


class Logger(trt.ILogger):  # type: ignore[misc]  # Any, where TensorRT is not installed
    """Pass TensorRT's messages to Python's logging, and collect errors for our messages."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self.errors.append(msg)
        # An error may concern one kernel of several that TensorRT tries. "Info" is a line a layer.
        detail = severity in (trt.ILogger.Severity.INFO, trt.ILogger.Severity.VERBOSE)
        log.log(logging.DEBUG if detail else logging.INFO, "TensorRT: %s", msg)


class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
    """Show TensorRT's nested phases as bars, and end the build when `cancelled` is set.

    TensorRT calls it from several threads at once.
    """

    def __init__(self, progress: Progress, cancelled: threading.Event) -> None:
        trt.IProgressMonitor.__init__(self)
        self._progress = progress
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._bars: dict[str, TaskID] = {}

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        with self._lock:
            indent = "  " if parent_phase in self._bars else ""
            self._bars[phase_name] = self._progress.add_task(indent + phase_name, total=num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        with self._lock:
            if phase_name in self._bars:
                self._progress.update(self._bars[phase_name], completed=step + 1)
        return not self._cancelled.is_set()

    def phase_finish(self, phase_name: str) -> None:
        with self._lock:
            if phase_name in self._bars:
                self._progress.remove_task(self._bars.pop(phase_name))


def serialize(
    onnx: Path,
    profiles: Sequence[Profile],
    options: BuildOptions,
    *,
    timing_cache: bytes,
    progress: Progress,
    cancelled: threading.Event,
) -> tuple[memoryview, memoryview] | None:
    """Parse a graph, let TensorRT choose kernels, and return the plan.

    Refit stays off, which is TensorRT's default: it prevents fusions, because weights may change.

    Args:
        onnx: the graph; TensorRT finds weights in files beside it by its path.
        profiles: at least one; Triton refers to them by their index.
        options: build options that the operator chose.
        timing_cache: the timings of earlier builds, or an empty string.
        progress: display for the bars.
        cancelled: set it to end the build at TensorRT's next step.

    Returns:
        The plan and the timing cache to keep, or None if the build was cancelled.

    Raises:
        ExportError: TensorRT cannot start, lacks an operator, or fails to build.
    """
    logger = Logger()
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # the bindings raise it when the library returns no builder
        raise ExportError(
            f"TensorRT {version()} cannot start ({_reason(logger)}); see whether nvidia-smi shows "
            "a GPU, and whether its driver is new enough for this TensorRT"
        ) from error
    network = builder.create_network(_network_flags())
    _parse(network, logger, onnx)
    config = builder.create_builder_config()
    monitor = Monitor(progress, cancelled)  # a variable keeps it alive during the build
    config.progress_monitor = monitor
    _apply(options, config)
    for profile in profiles:
        _add_profile(profile, builder, network, config)
    cache = _attach_cache(timing_cache, config)
    plan = builder.build_serialized_network(network, config)
    if cancelled.is_set():
        return None
    if plan is None:
        raise ExportError(f"{onnx}: TensorRT {version()} built no plan: {_reason(logger)}")
    return _bytes_of(plan), _bytes_of(cache.serialize())


def version() -> str:
    """Return the version of the installed TensorRT, such as `11.4.0.106`."""
    return str(trt.__version__)


def _network_flags() -> int:
    """Return the flags that make the graph's types decide between FP16 and FP32.

    In version 11 all networks are strongly typed. In 10 a network without the flag may compute
    everything in FP32.
    """
    if int(version().split(".")[0]) >= 11:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(network: trt.INetworkDefinition, logger: Logger, onnx: Path) -> None:
    parser = trt.OnnxParser(network, logger)
    # A graph larger than 2 GB has its weights in files beside it, which the parser finds by path.
    if parser.parse_from_file(str(onnx)):
        return
    lines = []
    for number in range(parser.num_errors):
        error = parser.get_error(number)
        place = f"node {error.node()}"
        if error.node_operator():
            place = f"operator {error.node_operator()} (node {error.node_name() or error.node()})"
        lines.append(f"{place}: {error.desc()} [{error.code().name}]")
    reasons = "; ".join(lines) or _reason(logger)
    raise ExportError(f"{onnx}: TensorRT {version()} cannot parse this graph: {reasons}")


def _apply(options: BuildOptions, config: trt.IBuilderConfig) -> None:
    config.builder_optimization_level = options.optimization_level
    if options.hardware_compatibility == "ampere_plus":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    elif options.hardware_compatibility == "same_compute_capability":
        try:
            level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
        except AttributeError:
            raise ExportError(
                f"TensorRT {version()} cannot build plans for one compute capability; 10.9 can"
            ) from None
        config.hardware_compatibility_level = level
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def _add_profile(
    profile: Profile,
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
) -> None:
    names = [network.get_input(number).name for number in range(network.num_inputs)]
    if names != [profile.input]:
        raise ExportError(
            f"the profile is for an input {profile.input!r}, but the graph's inputs are {names}"
        )
    shapes = builder.create_optimization_profile()
    low, middle, high = (trt.Dims(list(s)) for s in (profile.min, profile.opt, profile.max))
    try:
        shapes.set_shape(profile.input, low, middle, high)
    except ValueError as error:
        raise ExportError(f"TensorRT refuses {profile}: {error}") from error
    if config.add_optimization_profile(shapes) < 0:
        raise ExportError(f"TensorRT refuses {profile}; the graph's shapes may differ")


def _attach_cache(timings: bytes, config: trt.IBuilderConfig) -> trt.ITimingCache:
    """Load the timings of earlier builds, or start without any if they are of another GPU."""
    cache = config.create_timing_cache(timings)
    if cache is not None and config.set_timing_cache(cache, False):
        return cache
    log.warning("the timing cache is damaged or of another GPU or TensorRT; starting a new one")
    cache = config.create_timing_cache(b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise ExportError("TensorRT returned no timing cache; this installation does not work")
    return cache


def _bytes_of(memory: trt.IHostMemory) -> memoryview:
    """Return TensorRT's host memory as bytes, without a copy."""
    return memoryview(memory).cast("B")


def _reason(logger: Logger) -> str:
    return "; ".join(logger.errors) or "it gave no reason; `vireo --verbose` shows its messages"
