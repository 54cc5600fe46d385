"""Counters of Triton's restarts among its metrics."""

from __future__ import annotations

import triton_python_backend_utils as pb_utils
from vireo_client import environment


class RestartMetrics:
    """Reports how often `vireo serve` has started Triton anew, by cause.

    A restart ends Triton's own counters, so the counts come from `vireo serve`. Triton's metrics
    may be turned off; then there are none.

    Args:
        model: the name of the engine that reports.
        version: its version.
    """

    def __init__(self, model: str, version: str) -> None:
        try:
            # A metric ends with its family, so the family stays referenced.
            self._family = pb_utils.MetricFamily(
                name="vireo_restarts_total",
                description="Restarts of Triton because an engine died or the server ended",
                kind=pb_utils.MetricFamily.COUNTER,
            )
            self._metrics = []
            for cause, count in environment.restarts().items():
                labels = {"model": model, "version": version, "cause": cause}
                metric = self._family.Metric(labels=labels)
                metric.increment(count)
                self._metrics.append(metric)
        except pb_utils.TritonModelException as error:
            pb_utils.Logger.log_warn(f"{model}: restarts are not among the metrics ({error})")
