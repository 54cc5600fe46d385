"""Segments: the embeddings of an index, in files that are written once and never changed.

A save writes one segment for each part (images, captions) that it adds to. Its name is made of the
part, the generation of the save and the id of the writer: the catalogue commits the name, so that
the files of a writer that failed or died are never taken for those of another.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import SearchIndexError
from .exact import Embeddings, Mask, Rows, nearest_rows
from .kinds import SearchSettings

PARTS = ("images", "captions")
FLAT = "flat"
ARRAYS: dict[str, np.dtype[Any]] = {
    "ids": np.dtype(np.int64),
    "vectors": np.dtype(np.float32),
    "crc32": np.dtype(np.uint32),
}
"""A segment's arrays and their types."""
Checksums = npt.NDArray[np.uint32]
NO_ROWS: Rows = np.empty(0, dtype=np.int64)
REPAIR = "`vireo index verify --repair` drops what is damaged and lists what to index again"
"""What the message of damage says to do."""

_NAME = re.compile(r"(images|captions)-\d+-[0-9a-f]+")
_STRUCTURE = re.compile(_NAME.pattern + r"\.[a-z0-9]+\.faiss")
_MOST_ROWS = 1 << 40


class SegmentRow(NamedTuple):
    """A segment's entry in the catalogue."""

    name: str
    part: str
    """`images` or `captions`."""
    rows: int
    kind: str
    """Of its search structure: `flat` has none."""
    settings: dict[str, Any]
    """The kind's parameters and its measured recall."""
    files: dict[str, tuple[int, str]]
    """Bytes and SHA-256 by file name."""


def segment_row(
    name: str, part: str, rows: int, kind: str, settings: str, files: str
) -> SegmentRow:
    """Return an entry from its columns in the catalogue.

    Raises:
        ValueError, TypeError: it is none that an index writes, or names a file elsewhere.
    """
    noted, read = json.loads(files), json.loads(settings)
    if not (isinstance(noted, dict) and isinstance(read, dict) and _NAME.fullmatch(name)):
        raise ValueError(f"segment {name!r} is described by other than a name and two objects")
    by_name = {file: (int(size), str(digest)) for file, (size, digest) in noted.items()}
    needed = {f"{name}.{array}.npy" for array in ARRAYS}
    others = by_name.keys() - needed
    if not needed <= by_name.keys() or not all(map(_STRUCTURE.fullmatch, others)):
        raise ValueError(f"segment {name} has other files than a segment has")
    if part not in PARTS or type(rows) is not int or not 0 < rows < _MOST_ROWS:
        raise ValueError(f"segment {name} has {rows!r} rows of {part!r}")
    return SegmentRow(name, part, rows, str(kind), read, by_name)


@dataclass(frozen=True)
class Segment:
    """One segment, mapped into memory.

    Attributes:
        entry: its entry in the catalogue.
        ids: INT64 `[N]`, ascending.
        vectors: FP32 `[N, D]`.
        checksums: UINT32 `[N]`, the CRC-32 of each row; None in an index of schema 1.
        structure: the search structure, None for `flat`.
        removed: rows that were removed since the segment was written, INT64.
        whole: whether the checksums of its files were compared when they were opened.
    """

    entry: SegmentRow
    ids: Rows
    vectors: Embeddings
    checksums: Checksums | None
    structure: Any
    removed: Rows
    whole: bool = False

    @cached_property
    def present(self) -> Mask | None:
        """Rows that were not removed, `[N]`; None where all are present."""
        if not len(self.removed):
            return None
        present = np.ones(len(self.ids), dtype=np.bool_)
        present[self.removed] = False
        return present

    def search(
        self,
        queries: Embeddings,
        k: int,
        allowed: Mask | None = None,
        search: SearchSettings | None = None,
    ) -> tuple[Embeddings, Rows]:
        """Find the `k` nearest embeddings of each query among those that are present.

        Args:
            queries: unit vectors FP32 `[M, D]`, contiguous.
            k: how many, at most.
            allowed: rows that may be found, `[N]`; all, if None.
            search: how to use the search structure.

        Returns:
            Scores FP32 and ids INT64, both `[M, k]` or narrower; -1 where nothing was found.
        """
        search = search or SearchSettings()
        if self.present is not None:
            allowed = self.present if allowed is None else allowed & self.present
        k = min(k, len(self.ids))
        if self.structure is None or search.exact:
            scores, rows = nearest_rows(self.vectors, queries, k, allowed)
        else:
            scores, rows = self.structure.search(queries, k, allowed=allowed, settings=search)
        # Row -1, where nothing was found, takes the last id and gets its -1 back.
        ids = self.ids[rows]
        ids[rows < 0] = -1
        return scores, ids

    def check(self, ids: Rows) -> None:
        """Check that those of `ids` that lie in this segment have the embeddings they were given.

        Raises:
            SearchIndexError: one is damaged.
        """
        if self.whole or self.checksums is None:
            return
        rows = self.rows_of(ids)
        found = row_checksums(self.ids[rows], self.vectors[rows])
        if not np.array_equal(found, self.checksums[rows]):
            raise SearchIndexError(f"segment {self.entry.name}: an embedding is damaged; {REPAIR}")

    def rows_of(self, ids: Rows) -> Rows:
        """Return the row of each id that lies in this segment; other ids are left out."""
        rows: Rows = np.searchsorted(self.ids, ids)
        rows[rows == len(self.ids)] = 0
        found: Rows = rows[self.ids[rows] == ids]
        return found


def embeddings_of(segments: Iterable[Segment], ids: Rows) -> dict[int, Embeddings]:
    """Return the embeddings, FP32 `[D]` each, of those of `ids` that are present, by id."""
    found: dict[int, Embeddings] = {}
    for segment in segments:
        rows = segment.rows_of(ids)
        if segment.present is not None:
            rows = rows[segment.present[rows]]
        found.update(zip(segment.ids[rows].tolist(), segment.vectors[rows], strict=True))
    return found


def segment_name(part: str, generation: int, writer_id: str) -> str:
    """Return the name of the segment that a save writes for a part."""
    return f"{part}-{generation}-{writer_id}"


def row_checksums(ids: Rows, vectors: Embeddings) -> Checksums:
    """Return the CRC-32 of each id with its vector, UINT32 `[n]`."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32).view(np.uint8)
    numbers = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint8).reshape(-1, 8)
    pairs = zip(rows, numbers, strict=True)
    return np.fromiter(
        (zlib.crc32(row, zlib.crc32(number)) for row, number in pairs), np.uint32, len(rows)
    )
