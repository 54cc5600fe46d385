"""The kinds of search structures over a segment's vectors."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchSettings:
    """How one search uses the structures of an index; None stands for what the index was tuned to.

    Attributes:
        exact: compare with every vector, whatever the kind.
        nprobe: cells that are looked at, of the kinds with cells.
        ef: candidates that are kept, of the kinds with a graph.
    """

    exact: bool = False
    nprobe: int | None = None
    ef: int | None = None
