"""The kinds of search structures over a segment's vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


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


AUTO = "auto"


def choose(rows: int, dim: int, memory: int | None = None) -> str:
    """Return the kind for `auto`."""
    return "flat"


def build(
    kind: str,
    vectors: Any,
    path: Path | None,
    *,
    target_recall: float = 0.99,
    queries: Any = None,
    progress: Any = None,
) -> dict[str, Any]:
    """Build the search structure of a segment; `flat` has none."""
    return {"kind": "flat", "recall@10": 1.0}


def open_structure(kind: str, path: Path | None, vectors: Any, settings: dict[str, Any]) -> Any:
    """Open a structure that `build` wrote."""
    raise NotImplementedError(kind)
