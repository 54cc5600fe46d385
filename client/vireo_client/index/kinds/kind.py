"""What a kind of search structure is: data, and three functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .settings import SearchSettings


@dataclass(frozen=True)
class Kind:
    """A kind of search structure, described once and used by building, tuning and searching."""

    name: str
    summary: str
    """One line for a person who chooses."""
    make: Callable[[int, int, int], Any] | None = None
    """Make an empty FAISS index from the size and number of vectors and a seed; None for `flat`."""
    training_rows: Callable[[Any], int] = lambda index: 0
    """How many vectors training takes at most; 0 where there is nothing to train."""
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
    """The work of comparing one stored code, as part of one comparison with the master."""
    memory_mapped: bool = True
    """Whether FAISS can open the file as a memory map (`IO_FLAG_MMAP_IFC`)."""

    def value(self, search: SearchSettings, tuned: Mapping[str, Any]) -> int:
        """Return the knob's value for one search: the caller's, else the tuned one."""
        if self.knob is None:
            return 1
        asked: int | None = getattr(search, self.knob)
        return int(asked if asked is not None else tuned[self.knob])
