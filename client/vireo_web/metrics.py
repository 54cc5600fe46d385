"""Counts of requests, for Prometheus."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from vireo_client.telemetry import prometheus_text


class Metrics:
    """How many requests of each route were answered, and with what."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()

    def count(self, method: str, route: str, status: int) -> None:
        """Count an answer; `route` is the route's pattern, of which there are few."""
        with self._lock:
            self._requests[method, route, status] += 1

    def text(self, gauges: dict[str, float]) -> str:
        """Return all metrics in Prometheus' text format, version 0.0.4."""
        with self._lock:
            requests = sorted(self._requests.items())
        lines = ["# TYPE vireo_web_requests_total counter"]
        lines += [
            f'vireo_web_requests_total{{method="{method}",route="{route}",status="{status}"}} {n}'
            for (method, route, status), n in requests
        ]
        for name, value in gauges.items():
            lines += [f"# TYPE vireo_web_{name} gauge", f"vireo_web_{name} {value:g}"]
        return prometheus_text() + "\n".join(lines) + "\n"
