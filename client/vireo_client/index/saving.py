"""Saving: changes become part of an index, in one step.

New segments are written and synced; then one SQLite transaction writes the rows, the segments'
names, and which rows of older segments are removed. That commit is the moment the new state exists:
a kill before it leaves the old state, a kill after it the new one. No file of an older state is
touched, so that a save costs what was added, not what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .changes import NewImage
from .columns import fields_of
from .committed import Committed
from .pending import Pending
from .rows import CaptionRow, ImageRow, State
from .segments import PARTS, SegmentRow, segment_name
from .storage import write_segment

SAVED_JOURNAL = "saved_journal"
"""The meta key of the journal whose additions the last save took in."""


def save(committed: Committed, pending: Pending, journal: str, then: Callable[[], None]) -> None:
    """Commit changes.

    Args:
        committed: what they change.
        pending: the changes, one at least.
        journal: the name of the journal that holds them too; empty without one.
        then: what to do after the commit; see `Committed.moving_to`.

    Raises:
        SearchIndexError: the disk does not take it. The index stays as it was.
    """
    added = list(pending.added.values())
    gone = list(pending.gone().values())
    catalogue = committed.catalogue
    state = committed.next_state()._replace(images=pending.images(), captions=pending.captions())
    with committed.moving_to(state, then):
        next_image, next_caption = catalogue.next_ids()
        images, captions = _rows(added, next_image, next_caption)
        segments = _write_segments(committed, state, added, images, captions)
        with committed.transaction(state):
            for part, ids in zip(PARTS, (gone, catalogue.caption_ids(gone)), strict=True):
                for segment in committed.segments(part):
                    rows = segment.rows_of(np.array(ids, dtype=np.int64))
                    catalogue.bury(segment.entry.name, rows.tolist())
            catalogue.remove_images(gone)
            catalogue.restamp(dict(pending.stamps.values()))
            fields = [fields_of(row.id, image) for row, image in zip(images, added, strict=True)]
            catalogue.add(images, captions, fields)
            catalogue.add_segments(segments)
            catalogue.set_meta(
                next_image_id=str(next_image + len(images)),
                next_caption_id=str(next_caption + len(captions)),
                **{SAVED_JOURNAL: journal},
            )


def _rows(
    added: Sequence[NewImage], next_image: int, next_caption: int
) -> tuple[list[ImageRow], list[CaptionRow]]:
    """Give each image and caption its id."""
    images: list[ImageRow] = []
    captions: list[CaptionRow] = []
    for id_, image in enumerate(added, next_image):
        images.append(ImageRow(id_, image.path, image.sha256, image.stamp))
        for text in image.captions:
            captions.append(CaptionRow(next_caption + len(captions), id_, text))
    return images, captions


def _write_segments(
    committed: Committed,
    state: State,
    added: Sequence[NewImage],
    images: Sequence[ImageRow],
    captions: Sequence[CaptionRow],
) -> list[SegmentRow]:
    vectors = (
        [image.embedding[None] for image in added],
        [i.caption_embeddings for i in added if i.caption_embeddings is not None],
    )
    written = []
    ids_of = ([row.id for row in images], [row.id for row in captions])
    for part, numbers, blocks in zip(PARTS, ids_of, vectors, strict=True):
        if numbers:
            name = segment_name(part, state.generation, state.writer_id)
            ids = np.array(numbers, dtype=np.int64)
            written.append(write_segment(committed.folder, name, part, ids, blocks, committed.dim))
    return written
