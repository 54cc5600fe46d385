"""Counts of requests, for Prometheus."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from threading import Lock

from vireo_client.telemetry import prometheus_text


class Metrics:
    """How many requests of each route were answered, and with what."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: defaultdict[tuple[str, str, int], float] = defaultdict(float)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer.

        Args:
            method: of the request.
            route: the route's pattern, of which there are few.
            status: of the answer.
            seconds: until the answer was sent.
        """
        with self._lock:
            self._requests[method, route, status] += 1
            self._seconds[method, route, status] += seconds

    def text(self, gauges: dict[str, float]) -> str:
        """Return all metrics in Prometheus' text format, version 0.0.4."""
        with self._lock:
            series: dict[str, Mapping[tuple[str, str, int], float]] = {
                "requests_total": dict(self._requests),
                "request_seconds_total": dict(self._seconds),
            }
        lines = []
        for name, values in series.items():
            lines.append(f"# TYPE vireo_web_{name} counter")
            for (method, route, status), value in sorted(values.items()):
                label = f'method="{method}",route="{route}",status="{status}"'
                lines.append(f"vireo_web_{name}{{{label}}} {value}")
        for name, gauge in gauges.items():
            lines += [f"# TYPE vireo_web_{name} gauge", f"vireo_web_{name} {gauge}"]
        return prometheus_text() + "\n".join(lines) + "\n"
