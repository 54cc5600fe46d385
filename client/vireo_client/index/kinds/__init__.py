"""Kinds of search structure over a segment's vectors, and how one is chosen, built and opened.

Every kind answers with exact inner products: where a kind stores less than the vectors, its
candidates are compared again with the master, the segment's memory-mapped FP32 file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...errors import DataError
from . import building, structure
from .building import Progress
from .cells import IVF, IVFPQ, RABITQ, cells_for
from .graph import HNSW
from .kind import Kind
from .master import Floats
from .scalar import FP16, SQ8
from .settings import SearchSettings
from .structure import Structure

__all__ = [
    "AUTO",
    "KINDS",
    "Kind",
    "Progress",
    "SearchSettings",
    "Structure",
    "build",
    "check",
    "choose",
    "open_structure",
]

FLAT = Kind("flat", "every vector, exact: no structure beside the master")
KINDS: Mapping[str, Kind] = MappingProxyType(
    {kind.name: kind for kind in (FLAT, HNSW, IVF, IVFPQ, SQ8, FP16, RABITQ)}
)
"""The kinds by name."""
AUTO = "auto"
"""Stands for the kind that `choose` returns."""

_FLAT_ROWS = 20_000
"""Up to here `flat` answers in about a millisecond (size 512, one thread), and nothing is built."""
_SMALLEST_DIM = 32
"""Below this a vector is so small that product quantisation saves nothing."""


def choose(rows: int, dim: int, memory: int | None = None) -> str:
    """Return the kind for `auto`: `flat` for few vectors, else `ivfpq`, else `ivf` for short ones.

    Args:
        rows: how many vectors.
        dim: their size.
        memory: bytes that the structure may take; None sets no limit. Where no structure fits, it
            is `flat`, whose memory map the system may drop at any time.
    """
    if rows < _FLAT_ROWS:
        return FLAT.name
    kind, code = (IVFPQ, dim // 8) if dim >= _SMALLEST_DIM else (IVF, dim)
    needed = rows * (code + 16) + 4 * dim * cells_for(rows)  # codes, ids and slack; centroids
    return FLAT.name if memory is not None and memory < needed else kind.name


def check(kind: str, target_recall: float) -> None:
    """Check what `build` is asked for, before anything is written for it.

    Raises:
        DataError: an unknown kind, or a target out of range.
    """
    if not 0 < target_recall <= 1:
        raise DataError(f"target_recall is {target_recall}; give a number above 0, up to 1")
    if kind != AUTO:
        _named(kind)


def build(
    kind: str,
    vectors: Floats,
    path: Path | None,
    *,
    target_recall: float = 0.99,
    queries: Floats | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Build the search structure of a segment, and tune it.

    Memory holds the structure, its training sample and one block of vectors. The same vectors and
    seed give the same structure, but for `hnsw`, which several threads build at once.

    Args:
        kind: a name in `KINDS`, or `auto`.
        vectors: unit vectors FP32 `[N, D]`; a memory map is read in blocks.
        path: the file to write; `flat` writes none.
        target_recall: the recall@10 to tune for, from 0 to 1.
        queries: embeddings FP32 `[M, D]` of what users may ask, captions for example; they join
            the vectors that are searched for while tuning.
        seed: of the sample, of k-means and of the graph.
        progress: called with the step, what is done and what there is to do.

    Returns:
        The settings, which JSON can hold and `open_structure` takes: `kind` (`flat` where there are
        too few vectors for the one asked for, with a `note`), `recall@10` as measured,
        `target_recall`, the parameters, `seconds` and `bytes_per_vector`.

    Raises:
        DataError: an unknown kind, a target out of range, or vectors that hold NaN.
        SearchIndexError: the file cannot be written.
    """
    check(kind, target_recall)
    if kind == AUTO:
        kind = choose(*vectors.shape)
    return building.build(
        _named(kind),
        FLAT,
        vectors,
        path,
        target_recall=target_recall,
        queries=queries,
        seed=seed,
        progress=progress,
    )


def open_structure(
    kind: str, path: Path | None, vectors: Floats, settings: Mapping[str, Any]
) -> Structure:
    """Open a structure that `build` wrote.

    Args:
        kind: the kind that `build` returned.
        path: its file; `flat` has none.
        vectors: the segment's vectors, which the structure was built from.
        settings: what `build` returned.

    Raises:
        DataError: an unknown kind.
        SearchIndexError: the file is missing, damaged, or of other vectors.
    """
    return structure.open_structure(_named(kind), path, vectors, settings)


def _named(kind: str) -> Kind:
    try:
        return KINDS[kind]
    except KeyError:
        raise DataError(f"{kind!r} is no kind of index; there are {', '.join(KINDS)}") from None
