"""Compaction: an index gets fewer segments, and a search structure over them.

Two kinds of it. A save merges small segments, so that their number stays small: each embedding is
written again a few times in its life, in proportion to the logarithm of their number. Only when it
is asked for, a compaction merges all segments of a part and builds a search structure over them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..bundle import file_sha256
from ..errors import SearchIndexError
from . import kinds
from .committed import Committed
from .exact import Embeddings
from .kinds import AUTO, Progress
from .merging import merge, mergeable
from .rows import State
from .segments import FLAT, NO_ROWS, PARTS, Segment, SegmentRow, segment_name
from .storage import open_segment, structure_file, sync

logger = logging.getLogger(__name__)

DEFAULT_RECALL = 0.99
KIND, TARGET_RECALL = "kind", "target_recall"
"""Meta keys: what the last compaction was asked for."""
_DUE_SHARE = 0.25
_QUERIES = 1000


def compact(
    committed: Committed, kind: str, target_recall: float, progress: Progress | None
) -> None:
    """Merge all segments into one a part, and build a search structure over each.

    Args:
        committed: the index.
        kind: a name in `KINDS`, or `auto`.
        target_recall: the recall@10 to tune for.
        progress: told of the steps.

    Raises:
        DataError: there is no such kind, or the target is out of range.
        SearchIndexError: the disk does not take it. The index stays as it was.
    """
    kinds.check(kind, target_recall)
    state = committed.next_state()
    replaced = [s for part in PARTS for s in committed.segments(part)]
    queries = _sample(committed.segments("captions"))
    with committed.moving_to(state):
        written = []
        for part in PARTS:
            merged = _merge(committed, state, committed.segments(part), progress)
            if merged is not None:
                segment = open_segment(committed.folder, merged, committed.dim, NO_ROWS)
                written.append(
                    _build_structure(
                        committed.folder,
                        segment,
                        kind,
                        target_recall,
                        queries if part == "images" else None,
                        progress,
                    )
                )
        noted = {KIND: kind, TARGET_RECALL: str(target_recall)}
        committed.replace(state, replaced, written, **noted)
    committed.sweep()


def compact_if_due(committed: Committed, progress: Progress | None) -> bool:
    """Compact as the last time, if a part is due; return whether it was.

    Raises:
        SearchIndexError: the disk does not take it. The index stays as it was.
    """
    kind = committed.catalogue.meta(KIND) or AUTO
    if not any(_is_due(committed.segments(part), committed.dim, kind) for part in PARTS):
        return False
    target_recall = float(committed.catalogue.meta(TARGET_RECALL) or DEFAULT_RECALL)
    compact(committed, kind, target_recall, progress)
    return True


def merge_small(committed: Committed) -> None:
    """Merge the newest segments where there are many; what fails here can wait."""
    merging = [few for part in PARTS if (few := mergeable(committed.segments(part)))]
    if not merging:
        return
    state = committed.next_state()
    try:
        with committed.moving_to(state):
            merged = [_merge(committed, state, segments) for segments in merging]
            replaced = [segment for segments in merging for segment in segments]
            committed.replace(state, replaced, [entry for entry in merged if entry is not None])
    except SearchIndexError as error:
        logger.warning("%s: small segments stay as they are (%s)", committed.folder, error)
    committed.sweep()


def _merge(
    committed: Committed,
    state: State,
    segments: Sequence[Segment],
    progress: Progress | None = None,
) -> SegmentRow | None:
    if not segments:
        return None
    name = segment_name(segments[0].entry.part, state.generation, state.writer_id)
    return merge(committed.folder, name, segments, committed.dim, progress)


def _is_due(segments: Sequence[Segment], dim: int, kind: str) -> bool:
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


def _build_structure(
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


def _sample(segments: Sequence[Segment]) -> Embeddings | None:
    """Return some of a part's embeddings, spread over all of them; None where there is none."""
    rows = sum(segment.entry.rows for segment in segments)
    step = max(1, rows // _QUERIES)
    return np.concatenate([s.vectors[::step] for s in segments]) if rows else None
