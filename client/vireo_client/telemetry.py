"""Measures the stages of searching and indexing: how often each ran, and how long it took.

    with stage("segment"):
        ...

The stages of a search are `segment`, `tokenize`, `request` (from a batch to its embeddings, over
gRPC) and `search`. Those of indexing are `read` and `decode` (an image each), `embed` and `add` (a
batch each), `save` and `learn`. Their times are kept in this process; `snapshot` and
`prometheus_text` read them. In a program that uses OpenTelemetry each stage is a span, too, but for
`read` and `decode`; `trace_headers` names that span to a server.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Any

from .forks import renew_after_fork

BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
          2.5, 5.0, 10.0, 30.0, 60.0)  # fmt: skip
"""Upper bounds of the histograms' buckets, in seconds."""
METRIC = "vireo_client_stage_seconds"


class _Times:
    """The times of one stage."""

    __slots__ = ("buckets", "count", "failed", "lock", "seconds")

    def __init__(self) -> None:
        self.lock = Lock()
        self.count = 0
        self.failed = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def add(self, seconds: float, failed: bool) -> None:
        with self.lock:
            self.count += 1
            self.failed += failed
            self.seconds += seconds
            self.buckets[bisect_left(BOUNDS, seconds)] += 1

    def read(self) -> dict[str, Any]:
        with self.lock:
            return {"count": self.count, "failed": self.failed, "seconds": self.seconds,
                    "buckets": list(self.buckets)}  # fmt: skip

    def after_fork(self) -> None:
        self.lock = Lock()  # another thread of the parent may have held it


class _Registry:
    """The stages of this process."""

    def __init__(self) -> None:
        self.times: dict[str, _Times] = {}
        renew_after_fork(self)

    def after_fork(self) -> None:
        for times in self.times.values():
            times.after_fork()


_registry = _Registry()


class stage:  # noqa: N801
    """Measure what runs inside `with stage(name)`; an exception counts as failed and goes on.

    Threads and tasks may run the same stage at once, and stages may stand in each other.

    Args:
        name: the stage.
        span: whether it is a span, too: not what runs once an image, which may be a million times.
    """

    __slots__ = ("_name", "_span", "_spanning", "_start")

    def __init__(self, name: str, *, span: bool = True) -> None:
        self._name = name
        self._spanning = span
        self._span: Any = None

    def __enter__(self) -> None:
        # Who has not imported it has set up no place for spans to go, and it takes time to import.
        opentelemetry = sys.modules.get("opentelemetry.trace") if self._spanning else None
        if opentelemetry is not None:
            tracer = opentelemetry.get_tracer("vireo_client")
            self._span = tracer.start_as_current_span(f"vireo.{self._name}")
            self._span.__enter__()
        self._start = perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        seconds = perf_counter() - self._start
        times = _registry.times.get(self._name)
        if times is None:
            times = _registry.times.setdefault(self._name, _Times())
        times.add(seconds, kind is not None)
        if self._span is not None:
            self._span.__exit__(kind, error, traceback)


def trace_headers() -> dict[str, str]:
    """Return the headers by which a server joins the trace of the active span; none without one.

    They are `traceparent`, and `tracestate` where it is set (W3C Trace Context, section 3).
    """
    headers: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


def snapshot() -> dict[str, dict[str, Any]]:
    """Return each stage's `count`, `failed`, `seconds` in all and `buckets`.

    `buckets` holds how many times fell into each bucket of `BOUNDS`, and those above the last.
    """
    return {name: times.read() for name, times in sorted(_registry.times.items())}


def prometheus_text() -> str:
    """Return the stages in Prometheus' text format, version 0.0.4."""
    lines = [
        f"# HELP {METRIC} Time of the stages of searching and indexing.",
        f"# TYPE {METRIC} histogram",
    ]
    failed = [f"# TYPE {METRIC.replace('_seconds', '_failed_total')} counter"]
    for name, times in snapshot().items():
        label, total = f'stage="{name}"', 0
        for bound, count in zip((*BOUNDS, "+Inf"), times["buckets"], strict=True):
            total += count
            lines.append(f'{METRIC}_bucket{{{label},le="{bound}"}} {total}')
        lines.append(f"{METRIC}_sum{{{label}}} {times['seconds']!r}")
        lines.append(f"{METRIC}_count{{{label}}} {times['count']}")
        failed.append(f"{METRIC.replace('_seconds', '_failed_total')}{{{label}}} {times['failed']}")
    return "\n".join([*lines, *failed]) + "\n"
