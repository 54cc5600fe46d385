"""Compaction: several segments become one, without the rows that were removed.

Two kinds of it. A save merges small segments, so that their number stays small: each embedding is
written again a few times in its life, in proportion to the logarithm of their number. Only when it
is asked for, a compaction merges all segments of a part and builds a search structure over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import file_sha256
from . import kinds
from .exact import Embeddings
from .kinds import AUTO
from .segments import FLAT, Segment, SegmentRow, structure_file, sync, write_segment

Progress = Callable[[str, int, int], None]
"""Called with the name of a step, what is done of it and what there is to do."""

_BLOCK = 16_384
"""Rows in memory at once: 32 MiB of size 512."""
_MANY_SEGMENTS = 8
_LARGER = 2
"""A segment is merged with newer ones once these hold half as many rows."""
_DUE_SHARE = 0.25
_QUERIES = 1000


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


def is_due(segments: Sequence[Segment], dim: int, kind: str) -> bool:
    """Return whether a compaction would make searches of a part notably faster.

    It would when over a quarter of the rows are in no search structure, or are removed.

    Args:
        segments: those of one part.
        dim: the embedding size.
        kind: the kind that a compaction would build.
    """
    rows = sum(segment.entry.rows for segment in segments)
    removed = sum(len(segment.removed) for segment in segments)
    if kind == AUTO:
        kind = kinds.choose(rows - removed, dim)
    outside = sum(s.entry.rows for s in segments if s.entry.kind == FLAT) if kind != FLAT else 0
    return outside + removed > _DUE_SHARE * rows


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


def build_structure(
    folder: Path,
    segment: Segment,
    kind: str,
    target_recall: float,
    queries: Embeddings | None = None,
    progress: Progress | None = None,
) -> SegmentRow:
    """Build the search structure of a flat segment that no state names yet.

    Args:
        folder: the index.
        segment: the segment.
        kind: a name in `KINDS`, or `auto`.
        target_recall: the recall@10 to tune for.
        queries: embeddings FP32 `[M, D]` of what may be asked; they join those of the segment.
        progress: told of the steps.

    Returns:
        The segment's entry with its structure.

    Raises:
        DataError: the kind is unknown.
        SearchIndexError, OSError: the disk does not take it.
    """
    entry = segment.entry
    if kind == AUTO:
        kind = kinds.choose(*segment.vectors.shape)
    path = structure_file(folder, entry.name, kind)
    settings = kinds.build(
        kind,
        segment.vectors,
        path,
        target_recall=target_recall,
        queries=queries,
        progress=progress,
    )
    built = str(settings["kind"])  # flat, where there are too few rows for the kind
    files = dict(entry.files)
    if built != FLAT:
        sync(path)
        sync(path.parent)
        files[path.name] = (path.stat().st_size, file_sha256(path))
    return entry._replace(kind=built, settings=settings, files=files)


def sample(segments: Sequence[Segment]) -> Embeddings | None:
    """Return some of a part's embeddings, spread over all of them; None where there is none."""
    rows = sum(segment.entry.rows for segment in segments)
    step = max(1, rows // _QUERIES)
    return np.concatenate([s.vectors[::step] for s in segments]) if rows else None


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
