"""One measurement: a value for each repeat, their median, and how far they spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

Better = Literal["lower", "higher"]

PERCENTILES = (50, 90, 95, 99)
"""The percentiles of a summary. Of `n` samples none beyond `100 - 100 / n` is meaningful, so each
summary has its number of samples."""


@dataclass(frozen=True)
class Measurement:
    """What was measured, once for each repeat."""

    unit: str
    better: Better
    """Whether a lower or a higher value is better."""
    repeats: tuple[float, ...]
    """The value of each repeat, in the order in which they were measured."""
    samples: dict[str, float] = field(default_factory=dict)
    """The summary of single samples of all repeats, where there are any, in `unit`."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Whatever else belongs to the figure: batch sizes, the clients' CPU, failures."""

    @property
    def value(self) -> float:
        """The median of the repeats."""
        return float(np.median(self.repeats))

    @property
    def spread(self) -> float:
        """The distance from the least to the largest repeat, as a share of the median."""
        return float(np.ptp(self.repeats)) / self.value if self.value else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as JSON has it, the value and the spread among it."""
        saved = asdict(self) | {"repeats": [rounded(value) for value in self.repeats]}
        return {"value": rounded(self.value), "spread": rounded(self.spread), **saved}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Measurement:
        """Read a measurement back."""
        return cls(
            unit=saved["unit"],
            better=saved["better"],
            repeats=tuple(saved["repeats"]),
            samples=saved["samples"],
            facts=saved["facts"],
        )


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Return number, mean, percentiles and extremes of samples.

    Args:
        values: at least one sample, in the unit of the summary.

    Raises:
        ValueError: there is no sample.
    """
    if not len(values):
        raise ValueError("no samples to summarise: nothing was measured")
    array = np.asarray(values, dtype=np.float64)
    summary = {"count": len(array), "mean": rounded(array.mean())}
    for percent, value in zip(PERCENTILES, np.percentile(array, PERCENTILES), strict=True):
        summary[f"p{percent}"] = rounded(value)
    return summary | {"min": rounded(array.min()), "max": rounded(array.max())}


def latency(rounds: Sequence[Sequence[float]], **facts: Any) -> Measurement:
    """Return latencies as a measurement: the median of each round, and the samples of all.

    Args:
        rounds: seconds of single calls, a sequence for each repeat.
        facts: whatever else belongs to the figure.
    """
    milliseconds = [np.asarray(seconds) * 1e3 for seconds in rounds]
    return Measurement(
        unit="ms",
        better="lower",
        repeats=tuple(float(np.median(values)) for values in milliseconds),
        samples=summarise(np.concatenate(milliseconds)),
        facts=facts,
    )


def rate(values: Sequence[float], **facts: Any) -> Measurement:
    """Return rates a second as a measurement, one value for each repeat."""
    return Measurement(unit="1/s", better="higher", repeats=tuple(values), facts=facts)


def rounded(value: float) -> float:
    """Return a value with five significant digits: more would be noise."""
    return float(f"{value:.5g}")
