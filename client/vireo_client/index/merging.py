"""Merging: several segments become one, without the rows that were removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .exact import Embeddings
from .kinds import Progress
from .segments import FLAT, Segment, SegmentRow
from .storage import write_segment

_BLOCK = 16_384
"""Rows in memory at once: 32 MiB of size 512."""
_MANY_SEGMENTS = 8
_LARGER = 2
"""A segment is merged with newer ones once these hold half as many rows."""


def mergeable(segments: Sequence[Segment]) -> Sequence[Segment]:
    """Return the newest segments that a save should merge into one; empty while there are few.

    Args:
        segments: those of one part, in the order of their ids.
    """
    if len(segments) <= _MANY_SEGMENTS:
        return ()
    first, rows = len(segments), 0
    while first > 0:
        older = segments[first - 1]
        if older.entry.kind != FLAT or (rows and older.entry.rows > _LARGER * rows):
            break
        rows += older.entry.rows
        first -= 1
    return segments[first:] if len(segments) - first > 1 else ()


def merge(
    folder: Path,
    name: str,
    segments: Sequence[Segment],
    dim: int,
    progress: Progress | None = None,
) -> SegmentRow | None:
    """Write one flat segment that holds what is present in several, block by block.

    Args:
        folder: the index.
        name: of the new segment.
        segments: of one part, in the order of their ids.
        dim: the embedding size.
        progress: told how many rows are written.

    Returns:
        The new segment's entry; None where no row is present.

    Raises:
        SearchIndexError: an embedding is damaged; nothing damaged is written anew.
        OSError: the disk does not take it.
    """
    ids = np.concatenate([_kept(s, s.ids) for s in segments])
    if not len(ids):
        return None
    checksums = np.concatenate([_kept(s, s.checksums) for s in segments])
    blocks = _present(segments, len(ids), progress)
    return write_segment(folder, name, segments[0].entry.part, ids, blocks, dim, checksums)


def _kept(segment: Segment, values: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    """Return the values of rows that are present."""
    assert values is not None  # an index of schema 1 is converted before it is compacted
    return values if segment.present is None else values[segment.present]


def _present(
    segments: Sequence[Segment], total: int, progress: Progress | None
) -> Iterator[Embeddings]:
    done = 0
    for segment in segments:
        for start in range(0, len(segment.ids), _BLOCK):
            block = segment.vectors[start : start + _BLOCK]
            if segment.present is not None:
                block = block[segment.present[start : start + _BLOCK]]
            yield block
            done += len(block)
            if progress:
                progress("merge", done, total)
