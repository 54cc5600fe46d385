"""Triton's own statistics, read before and after a load: queue, compute, batch size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tritonclient.grpc as triton


@dataclass(frozen=True)
class Counters:
    """Sums since the server started, of one model."""

    requests: int
    executions: int
    rows: int
    queue_ns: int
    input_ns: int
    infer_ns: int
    output_ns: int
    cache_hits: int

    def since(self, before: Counters) -> dict[str, float]:
        """Return means between two readings: microseconds a request, rows an execution."""
        d = {name: getattr(self, name) - getattr(before, name) for name in vars(self)}
        computed = max(d["requests"] - d["cache_hits"], 1)
        executed = max(d["executions"], 1)
        return {
            "requests": d["requests"],
            "executions": d["executions"],
            "batch": round(d["rows"] / executed, 2),
            "queue_us": round(d["queue_ns"] / computed / 1e3, 1),
            "input_us": round(d["input_ns"] / computed / 1e3, 1),
            "infer_us": round(d["infer_ns"] / computed / 1e3, 1),
            "output_us": round(d["output_ns"] / computed / 1e3, 1),
            "cache_hits": d["cache_hits"],
        }


class Statistics:
    """Reads the counters of some models of a server.

    Args:
        url: `host:port` of the gRPC endpoint.
        models: the models' names.
    """

    def __init__(self, url: str, models: tuple[str, ...]) -> None:
        self._client = triton.InferenceServerClient(url)
        self._models = models

    def read(self) -> dict[str, Counters]:
        """Return the counters of each model, of all engines behind its name together."""
        return {model: self._read(model) for model in self._models}

    @contextmanager
    def over(self, found: dict[str, Any]) -> Iterator[None]:
        """Put what the models did during the block into `found`, by the models' names."""
        before = self.read()
        yield
        time.sleep(0.05)  # the server counts a request after it has answered
        found |= {model: now.since(before[model]) for model, now in self.read().items()}

    def _read(self, model: str) -> Counters:
        everything = self._client.get_inference_statistics().model_stats
        # Behind a tower's name, engines run whose names have a number: `text_encoder@2`.
        versions = [found for found in everything if found.name.startswith(f"{model}@")]
        versions = versions or [found for found in everything if found.name == model]
        times = [version.inference_stats for version in versions]
        return Counters(
            requests=sum(t.success.count for t in times),
            executions=sum(version.execution_count for version in versions),
            rows=sum(version.inference_count for version in versions),
            queue_ns=sum(t.queue.ns for t in times),
            input_ns=sum(t.compute_input.ns for t in times),
            infer_ns=sum(t.compute_infer.ns for t in times),
            output_ns=sum(t.compute_output.ns for t in times),
            cache_hits=sum(t.cache_hit.count for t in times),
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
