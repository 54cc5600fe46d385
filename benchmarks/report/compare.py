"""Two reports compared: what got slower beyond the noise between repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .document import Report
from .measurement import Measurement

UNKNOWN_NOISE = 0.15
"""The noise of a measurement that was taken once."""
LEAST_NOISE = 0.03
"""Repeats can agree by chance; a change of less is never reported."""

Verdict = Literal["slower", "faster", "same"]


@dataclass(frozen=True)
class Change:
    """One measurement, or one ratio, in both reports."""

    name: str
    old: float
    new: float
    cost: float
    """How much worse the new one is, as a share of the old one; below 0 it is better."""
    noise: float
    """The change that the repeats of both would show without any cause."""

    @property
    def verdict(self) -> Verdict:
        """Whether the change is beyond the noise, and in which direction."""
        if abs(self.cost) <= self.noise:
            return "same"
        return "slower" if self.cost > 0 else "faster"


@dataclass(frozen=True)
class Comparison:
    """All that two reports have in common, and what only the old one has."""

    changes: list[Change]
    gone: list[str]
    same_machine: bool
    """Whether times can be compared. On another machine only ratios can."""

    @property
    def slower(self) -> list[Change]:
        """The changes for the worse, the largest first."""
        found = [change for change in self.changes if change.verdict == "slower"]
        return sorted(found, key=lambda change: -change.cost)


def compare(old: Report, new: Report) -> Comparison:
    """Compare two reports: measurements on the same machine, else ratios.

    The noise of a measurement is the spread of its repeats, in the report where that is larger. A
    ratio's is the sum of those of its two measurements.
    """
    keys = ("cpu", "cores", "gpu")
    a, b = old.provenance["machine"], new.provenance["machine"]
    same = all(a[key] == b[key] for key in keys)
    if same:
        before, after = old.measurements.keys(), new.measurements.keys()
        changes = [
            _change(name, old.measurements[name], new.measurements[name])
            for name in old.measurements
            if name in after
        ]
    else:
        before, after = old.ratios.keys(), new.ratios.keys()
        changes = [_ratio_change(name, old, new) for name in old.ratios if name in after]
    return Comparison(changes, sorted(before - after), same)


def _change(name: str, old: Measurement, new: Measurement) -> Change:
    cost = _cost(old.value, new.value, old.better)
    return Change(name, old.value, new.value, cost, max(noise(old), noise(new)))


def _ratio_change(name: str, old: Report, new: Report) -> Change:
    of = old.ratios_of[name]
    spreads = [
        noise(report.measurements[of["over"]]) + noise(report.measurements[of["under"]])
        for report in (old, new)
    ]
    a, b = old.ratios[name], new.ratios[name]
    return Change(name, a, b, _cost(a, b, of["better"]), max(spreads))


def _cost(old: float, new: float, better: str) -> float:
    before, after = (old, new) if better == "lower" else (new, old)
    if before == 0:  # a stage that took no time that could be measured
        return 0.0 if after == 0 else float("inf")
    return after / before - 1


def noise(measurement: Measurement) -> float:
    """Return the spread of a measurement's repeats, or what is assumed of a single one."""
    if len(measurement.repeats) < 2:
        return UNKNOWN_NOISE
    return max(measurement.spread, LEAST_NOISE)
