"""What a kind of search structure is: data, and three functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .master import Floats
from .settings import SearchSettings


@dataclass(frozen=True)
class Kind:
    """A kind of search structure, described once and used by building, tuning and searching."""

    name: str
    summary: str
    """One line for a person who chooses."""
    make: Callable[[Floats, int, int], Any] | None = None
    """Make a trained FAISS index without vectors from a sample of them (FP32 `[S, D]`), how many
    there will be, and a seed; None for `flat`."""
    sample_rows: Callable[[int], int] = lambda rows: 20_000
    """How many vectors the sample needs at most, from how many there are."""
    least_rows: int = 1
    """Fewer vectors than this make the kind pointless: the build falls to `flat`."""
    knob: str | None = None
    """The setting that trades time for recall: `nprobe`, `ef`, or none."""
    knob_least: int = 1
    """The smallest value of `knob` that tuning tries."""
    knob_limit: Callable[[Any], int] = lambda index: 1
    """The largest useful value of `knob`."""
    parameters: Callable[[Any, int, Any], Any] = lambda index, value, selector: None
    """Make FAISS's parameters of one search from the index, the knob's value and a selector."""
    factors: tuple[int, ...] = (1,)
    """How many candidates a match are compared again with the master, the choices of tuning."""
    row_cost: float = 0.0
    """The time to compare one stored code, as a part of that to compare with the master again."""
    for_few: Callable[[Any], None] | None = None
    """Prepare a second index over the same file for few queries at a time, where it pays."""

    def value(self, search: SearchSettings, tuned: Mapping[str, Any]) -> int:
        """Return the knob's value for one search: the caller's, else the tuned one."""
        if self.knob is None:
            return 1
        asked: int | None = getattr(search, self.knob)
        return int(asked if asked is not None else tuned[self.knob])
