"""A search structure that is open: its file, the master behind it, and how both are searched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import DataError, SearchIndexError
from ..threads import threads
from .kind import Kind
from .library import faiss
from .master import Floats, Master, Rows
from .settings import SearchSettings

TOP = 10
"""Tuning measures the recall among so many matches."""
FEW_QUERIES = 16
"""Up to here a second index over the same file is used, if the kind has one for few queries."""
SCAN_ROWS = 5_000
"""So few rows are always compared one by one: it costs less than any structure's search."""


class Structure:
    """Vectors that can be searched; rows are positions in the segment.

    Threads may share it: a search changes nothing, and its parameters are objects of its own.
    """

    def __init__(
        self,
        kind: Kind,
        index: Any | None,
        vectors: Floats,
        settings: Mapping[str, Any],
        for_few: Any | None = None,
    ) -> None:
        self.kind = kind
        self.settings = dict(settings)
        self.master = Master(vectors)
        self.index = index
        self._for_few = index if for_few is None else for_few

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        allowed: npt.NDArray[np.bool_] | None = None,
        settings: SearchSettings = SearchSettings(),
    ) -> tuple[Floats, Rows]:
        """Find the rows with the largest inner product with each query.

        Scores are exact inner products with the master's vectors, whatever the kind.

        Args:
            queries: unit vectors FP32 `[M, D]`.
            k: how many rows, at most; may be more than there are.
            allowed: bool `[N]`, False for rows that must not be found; None lets all pass.
            settings: of this search.

        Returns:
            Scores FP32 `[M, k]`, best first, and rows INT64 `[M, k]`; -inf and -1 where nothing
            is left, and for a query that is no number.

        Raises:
            DataError: `k`, the queries' shape or the size of `allowed` is wrong.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._check(queries, k, allowed)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        width = min(k, self.master.rows)
        if width and len(queries):
            with threads(len(queries)):
                found = self._found(queries, width, allowed, settings)
            width = found[0].shape[1]
            scores[:, :width], rows[:, :width] = found
            nothing = (rows < 0) | ~np.isfinite(scores)
            scores[nothing], rows[nothing] = -np.inf, -1
        return scores, rows

    def _found(
        self,
        queries: Floats,
        k: int,
        allowed: npt.NDArray[np.bool_] | None,
        settings: SearchSettings,
    ) -> tuple[Floats, Rows]:
        selector, share = None, 1.0
        if allowed is not None:
            passing = int(np.count_nonzero(allowed))
            if passing <= SCAN_ROWS:
                return self.master.search_rows(queries, k, np.flatnonzero(allowed))
            if passing < len(allowed):
                selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
                share = passing / len(allowed)
        if self.index is None or settings.exact:
            return self.master.search(queries, k, selector)
        value = self._value(settings, share)
        factor = int(self.settings["factor"])
        # A factor is for ten matches: fewer would else have fewer candidates than they need.
        fetch = min(max(k, TOP) * factor if factor > 1 else k, self.master.rows)
        return self.master.best(queries, k, self.candidates(queries, fetch, value, selector))

    def _value(self, settings: SearchSettings, share: float) -> int:
        """Return the knob's value for a search of which a share of the rows may be found."""
        # The best rows of a share of all lie as far away as the best of `1 / share` times as many.
        value = np.ceil(self.kind.value(settings, self.settings) / share)
        return min(int(value), self.kind.knob_limit(self.index))

    def candidates(
        self, queries: Floats, fetch: int, value: int, selector: Any | None = None
    ) -> Rows:
        """Return the structure's own best `fetch` rows INT64 `[M, fetch]`, the best first.

        Args:
            queries: FP32 `[M, D]`.
            fetch: how many.
            value: of the kind's knob.
            selector: FAISS's, of the rows that may be found.
        """
        if self.kind.knob == "ef":
            value = max(value, fetch)
        params = self.kind.parameters(self.index, value, selector)
        index = self._for_few if len(queries) <= FEW_QUERIES else self.index
        assert index is not None
        rows: Rows = index.search(queries, fetch, params=params)[1]
        return rows

    def _check(self, queries: Floats, k: int, allowed: npt.NDArray[np.bool_] | None) -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise DataError(f"k is {k!r}; give the number of matches, a whole number from 1")
        if queries.ndim != 2 or queries.shape[1] != self.master.dim:
            raise DataError(
                f"queries have shape {list(queries.shape)}; the vectors have size {self.master.dim}"
            )
        if allowed is not None and (allowed.dtype != np.bool_ or len(allowed) != self.master.rows):
            raise DataError(
                f"`allowed` is {allowed.dtype} of {len(allowed)} rows; "
                f"it must be bool of {self.master.rows}"
            )


def open_structure(
    kind: Kind, path: Path | None, vectors: Floats, settings: Mapping[str, Any]
) -> Structure:
    """Open the structure that `build` wrote; see `vireo_client.index.kinds.open_structure`."""
    if kind.make is None:
        return Structure(kind, None, vectors, settings)
    if path is None:
        raise SearchIndexError(f"a structure of kind {kind.name} needs its file")
    _check_settings(kind, path, settings)
    index = read(path)
    if index.d != vectors.shape[1] or index.ntotal != len(vectors):
        raise SearchIndexError(
            f"{path}: holds {index.ntotal} vectors of size {index.d}, its segment has "
            f"{len(vectors)} of size {vectors.shape[1]}; compact the index to build it anew"
        )
    if kind.for_few is None:
        return Structure(kind, index, vectors, settings)
    # FAISS keeps this choice in the index, not in a search's parameters; the file's memory map is
    # shared, so that a second index costs next to nothing.
    few = read(path)
    kind.for_few(few)
    return Structure(kind, index, vectors, settings, few)


def _check_settings(kind: Kind, path: Path, settings: Mapping[str, Any]) -> None:
    for name in ("factor", kind.knob):
        value = settings.get(name) if name else 1
        if type(value) is not int or value < 1:
            raise SearchIndexError(
                f"{path}: the catalogue has {name} {str(value)[:20]!r} for it, and not a whole "
                "number from 1; compact the index to build it anew"
            )


def read(path: Path) -> Any:
    """Open a structure file as a memory map.

    Raises:
        SearchIndexError: it is missing or damaged.
    """
    if not path.is_file():
        raise SearchIndexError(f"{path}: missing; compact the index to build it anew")
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    # A damaged length makes FAISS ask for absurd amounts of memory.
    except (RuntimeError, MemoryError, ValueError) as error:
        reason = str(error).rpartition("Error: ")[2] or type(error).__name__
        raise SearchIndexError(
            f"{path}: cannot be read ({reason}); compact the index to build it anew"
        ) from None
