"""Counters of a tower's cache among Triton's metrics."""

from __future__ import annotations

import time

import triton_python_backend_utils as pb_utils

from vireo_serving.models.cache import VectorCache

REPORT_SECONDS = 1.0
"""Between two reports: each is a message to the server and its answer."""


class CacheMetrics:
    """Reports the hits and misses of a cache, by the engine's name and version.

    Triton's metrics may be turned off; then there are none.

    Args:
        cache: the tower's.
        model: the engine's name.
        version: the engine's version.
    """

    def __init__(self, cache: VectorCache, model: str, version: str) -> None:
        self._cache = cache
        self._reported = {"hits": 0, "misses": 0}
        self._due = 0.0
        labels = {"model": model, "version": version}
        try:
            # A metric ends with its family, so the families stay referenced.
            self._families = {
                counter: pb_utils.MetricFamily(
                    name=f"vireo_cache_{counter}_total",
                    description=f"Look-ups in the tower's own cache of vectors: {counter}",
                    kind=pb_utils.MetricFamily.COUNTER,
                )
                for counter in self._reported
            }
            self._metrics = {
                counter: family.Metric(labels=labels) for counter, family in self._families.items()
            }
        except pb_utils.TritonModelException as error:
            pb_utils.Logger.log_warn(f"{model}: its cache is not among the metrics ({error})")
            self._metrics = {}

    def update(self, *, last: bool = False) -> None:
        """Bring the metrics up to date, unless that was done less than a second ago.

        Args:
            last: report now, however short ago the last report was.
        """
        now = time.monotonic()
        if now < self._due and not last:
            return
        self._due = now + REPORT_SECONDS
        for counter, metric in self._metrics.items():
            count = getattr(self._cache, counter)
            if count > self._reported[counter]:
                metric.increment(count - self._reported[counter])
                self._reported[counter] = count
