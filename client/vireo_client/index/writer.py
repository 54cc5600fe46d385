"""An index opened for writing.

A save writes a new segment for each part that it adds to, and syncs it; then one SQLite transaction
writes the rows, the segments' names, and which rows of older segments are removed. That commit is
the moment the new state exists: a kill before it leaves the old state, a kill after it the new one.
No file of an older state is touched, so that a save costs what was added, not what is there. Files
that no committed state names are swept away when an index is opened for writing.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from ..bundle import Bundle
from ..errors import DataError, SearchIndexError
from .bundle_files import record_bundle, sweep_drafts
from .catalogue import CATALOGUE_FILE
from .changes import Move, NewImage
from .columns import ColumnCheck, fields_of, moved_fields
from .compaction import Progress, build_structure, is_due, merge, mergeable, sample
from .exact import Embeddings, Rows
from .journal import JOURNAL_PREFIX, Journal, left_journals
from .kinds import AUTO
from .legacy import convert, sweep_legacy
from .loading import load_vectors
from .lock import HOLDER_FILE, LOCK_FILE, WriterLock
from .nearest import nearest
from .pending import Pending, checked
from .relevance import (
    CAPTIONS,
    MIN_CAPTIONS,
    Embed,
    Relevance,
    learn_from_captions,
    learn_from_neutral_queries,
    sample_captions,
)
from .relevance import META_KEY as RELEVANCE_KEY
from .rows import CaptionRow, FileStamp, ImageRow, State
from .segments import (
    NO_ROWS,
    PARTS,
    Segment,
    SegmentRow,
    drop_segments,
    open_segment,
    segment_name,
    sweep_segments,
    write_segment,
)
from .writable import WritableCatalogue

_SAVED_JOURNAL = "saved_journal"
"""The meta key of the journal whose additions the last save took in."""

logger = logging.getLogger(__name__)


class IndexWriter:
    """Adds, moves and removes images of the index in one folder, of which it is the only writer.

    Args:
        folder: the index; it is made if it does not exist.
        bundle: the bundle whose embeddings are added; another bundle's index is refused. The index
            keeps its small files and remembers where its folder lies.

    Raises:
        IndexLocked: another writer is at work.
        SearchIndexError: the folder holds other files, the index is damaged, or another bundle made
            it.
    """

    def __init__(self, folder: str | Path, bundle: Bundle) -> None:
        self.folder = Path(folder)
        self._dim = bundle.config.embedding_dim
        # Drawn anew after a save that failed: a name that was written once is not written again.
        self._writer_id = _new_writer_id()
        self._pending = Pending()
        self._closed = False
        with ExitStack() as opened:
            try:
                self._open(bundle, opened)
            except (OSError, sqlite3.Error) as error:
                raise SearchIndexError(f"{self.folder}: cannot be opened ({error})") from error
            self._closing = opened.pop_all()

    def _open(self, bundle: Bundle, opened: ExitStack) -> None:
        path = self.folder / CATALOGUE_FILE
        if self.folder.is_dir() and not path.is_file() and self._holds_other_files():
            raise SearchIndexError(
                f"{self.folder}: holds other files and no index; choose another folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        opened.callback(WriterLock(self.folder).close)
        new = None
        # A writer that was killed at its very start leaves an empty catalogue.
        if not path.is_file() or path.stat().st_size == 0:
            new = {"bundle_id": bundle.bundle_id, "generation": "0"}
        self._catalogue = WritableCatalogue(path, create=new)
        opened.callback(self._catalogue.close)
        self._catalogue.check_bundle(bundle)
        self._vectors = load_vectors(self.folder, self._catalogue, self._dim, structures=False)
        self._columns = ColumnCheck(self._catalogue.columns())
        opened.callback(self._columns.close)
        self._sweep()
        sweep_drafts(self.folder)
        record_bundle(self.folder, self._catalogue, bundle)
        self._journal: Journal | None = None
        self._left = left_journals(self.folder)
        self._take_over()

    def _take_over(self) -> None:
        """Save what killed writers added and did not save."""
        saved = self._catalogue.meta(_SAVED_JOURNAL)
        for path in self._left:
            # What this one holds is saved: its writer was killed after the commit.
            if path.name != saved:
                for batch in Journal(path).replay():
                    self._replay(path, batch)
        if self._left:
            try:
                self.save()
            except SearchIndexError as error:  # a full disk, say: the journals stay for now
                logger.warning("%s: what was added before is not saved yet (%s)", path, error)

    def _replay(self, path: Path, batch: Sequence[NewImage]) -> None:
        try:
            images = [checked(image, self._dim) for image in batch if not self._holds(image)]
            self._columns.check(images)
        except DataError as error:
            logger.warning("%s: a batch is passed over (%s)", path, error)
        else:
            self._take(images)

    def _holds(self, image: NewImage) -> bool:
        """Return whether an image was saved just as it is."""
        saved = self._catalogue.stamp(image.path)
        return (
            saved is not None
            and saved[1] == image.stamp
            and self._catalogue.sha256(saved[0]) == image.sha256
        )

    @property
    def _saved(self) -> State:
        return self._vectors.state

    def _sweep(self) -> None:
        sweep_segments(self.folder, [s.entry for part in PARTS for s in self._segments(part)])
        sweep_legacy(self.folder, self._saved)

    def _segments(self, part: str) -> list[Segment]:
        return self._vectors.parts[part]

    def _holds_other_files(self) -> bool:
        ours = (LOCK_FILE, HOLDER_FILE, CATALOGUE_FILE, JOURNAL_PREFIX)
        return any(not entry.name.startswith(ours) for entry in self.folder.iterdir())

    def __len__(self) -> int:
        """Return the number of images, unsaved ones included."""
        return self._saved.images - len(self._pending.gone()) + len(self._pending.added)

    @property
    def captions(self) -> int:
        """The number of captions, unsaved ones included."""
        gone = len(self._catalogue.caption_ids(self._pending.gone().values()))
        new = sum(len(image.captions) for image in self._pending.added.values())
        return self._saved.captions - gone + new

    def is_current(self, path: str, stamp: FileStamp) -> bool:
        """Return whether an image is indexed and neither its file nor its captions changed since.

        A stamp without captions goes with any captions that are indexed.
        """
        if path in self._pending.added:
            known = self._pending.added[path].stamp
        else:
            saved = self._find_saved(path)
            if saved is None:
                return False
            known = saved[1]
        return known == (stamp if stamp.captions else stamp._replace(captions=known.captions))

    def _find_saved(self, path: str) -> tuple[int, FileStamp] | None:
        if path in self._pending.removed:
            return None
        return self._pending.stamps.get(path) or self._catalogue.stamp(path)

    def stamps(self) -> dict[str, FileStamp]:
        """Return the stamp of every image by its path, unsaved ones included."""
        stamps = self._catalogue.stamps()
        stamps.update({path: stamp for path, (_, stamp) in self._pending.stamps.items()})
        for path in self._pending.gone():
            del stamps[path]
        stamps.update({path: image.stamp for path, image in self._pending.added.items()})
        return stamps

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every saved image's file by its path."""
        hashes = self._catalogue.hashes()
        for path in self._pending.gone():
            del hashes[path]
        return hashes

    def add(self, images: Sequence[NewImage]) -> None:
        """Add images, replacing those of the same path; `save` makes it part of the index.

        A writer that is killed before has them in its journal: the next writer has them too, and
        its `save` saves them.

        Raises:
            DataError: an embedding has another size than the bundle's, holds what is no number, or
                is not of length 1; there is not one for each caption; or a field's value does not
                fit its column. Nothing was added.
            SearchIndexError: the disk does not take the journal. Nothing was added.
        """
        self._check_open()
        images = [checked(image, self._dim) for image in images]
        self._columns.check(images)
        if self._journal is None:
            self._journal = Journal(self.folder / f"{JOURNAL_PREFIX}{secrets.token_hex(4)}.bin")
        try:
            self._journal.append(images)
        except OSError as error:
            raise SearchIndexError(
                f"{self.folder}: cannot be written ({error}); nothing was added"
            ) from error
        self._take(images)

    def _take(self, images: Sequence[NewImage]) -> None:
        for image in images:
            saved = self._find_saved(image.path)
            # In this order: an interruption in between loses no image.
            if saved is not None:
                self._pending.replaced[image.path] = saved[0]
            self._pending.added[image.path] = image

    def move(self, moves: Sequence[Move]) -> None:
        """Give saved images new paths; they keep embedding and captions. `save` makes it lasting.

        As an id names the same image for ever, a moved image has a new one.

        Raises:
            DataError: no image of an old path is saved; nothing was moved.
        """
        self._check_open()
        images = []
        for move in moves:
            saved = self._find_saved(move.old)
            if saved is None:
                raise _not_indexed(move.old)
            id_, stamp = saved
            captions = self._catalogue.captions_of(id_)
            images.append(
                NewImage(
                    move.new,
                    self._catalogue.sha256(id_),
                    move.stamp._replace(captions=stamp.captions),
                    self._vectors_of("images", [id_])[0],
                    tuple(text for _, text in captions),
                    self._vectors_of("captions", [i for i, _ in captions]),
                    moved_fields(self._catalogue.fields_of(id_), move.old, move.new),
                )
            )
        # In this order: an interruption in between leaves an image twice, and loses none. The
        # journal is not needed, as these embeddings are saved already.
        self._take(images)
        self.remove([move.old for move in moves])

    def restamp(self, path: str, stamp: FileStamp) -> None:
        """Note another size or time of a file that has the bytes it had. `save` makes it lasting.

        The image keeps its id, embedding and captions.

        Args:
            path: the path of an indexed image.
            stamp: the file's; without captions, the image keeps those it has.

        Raises:
            DataError: no image of this path is indexed.
        """
        self._check_open()
        added, saved = self._pending.added.get(path), self._find_saved(path)
        known = added.stamp if added else saved[1] if saved else None
        if known is None:
            raise _not_indexed(path)
        if not stamp.captions:
            stamp = stamp._replace(captions=known.captions)
        if added:
            self._pending.added[path] = added._replace(stamp=stamp)
        elif saved:
            self._pending.stamps[path] = (saved[0], stamp)

    def _vectors_of(self, part: str, ids: Sequence[int]) -> Embeddings:
        """Return the vectors of saved ids, in their order, FP32 `[N, D]`."""
        wanted = np.array(ids, dtype=np.int64)
        found: dict[int, Embeddings] = {}
        for segment in self._segments(part):
            rows = segment.rows_of(wanted)
            found.update(zip(segment.ids[rows].tolist(), segment.vectors[rows], strict=True))
        return np.array([found[i] for i in ids], dtype=np.float32).reshape(-1, self._dim)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove images and their captions; `save` makes it lasting.

        Raises:
            DataError: no image of such a path is indexed; nothing was removed.
        """
        self._check_open()
        paths = list(dict.fromkeys(paths))
        pending = self._pending
        saved = {path: self._find_saved(path) for path in paths}
        for path in paths:
            if saved[path] is None and path not in pending.added:
                raise _not_indexed(path)
        for path, row in saved.items():
            if row is not None:
                pending.removed[path] = row[0]
            pending.added.pop(path, None)

    def save(self) -> None:
        """Make all changes so far lasting, in one step.

        It writes what was added, and a few bytes for each image that was removed. An index of
        schema 1 is turned into one of schema 2 before.

        Raises:
            SearchIndexError: the disk does not take it, or a reader holds the catalogue for too
                long. The index stays as it was saved last; `save` may be tried again.
        """
        self._check_open()
        if self._saved.version == 1:
            self._convert()
        pending = self._pending
        if not pending.added and not pending.removed and not pending.stamps:
            self._clear_journals()
            return
        gone = list(pending.gone().values())
        state = self._next_state()._replace(images=len(self), captions=self.captions)
        with self._saving(state, Pending()):
            # Looked at before anything is written: files of a committed state are never replaced.
            self._catalogue.check_state(self._saved)
            images, captions = self._new_rows()
            segments = self._write_segments(state, images, captions)
            with self._catalogue.transaction():
                self._catalogue.check_state(self._saved)
                gone_captions = self._catalogue.caption_ids(gone)
                for part, ids in zip(PARTS, (gone, gone_captions), strict=True):
                    for segment in self._segments(part):
                        rows = segment.rows_of(np.array(ids, dtype=np.int64))
                        self._catalogue.bury(segment.entry.name, rows.tolist())
                self._catalogue.remove_images(gone)
                fields = [fields_of(row.id, self._pending.added[row.path]) for row in images]
                self._catalogue.restamp(dict(pending.stamps.values()))
                self._catalogue.add(images, captions, fields)
                self._catalogue.add_segments(segments)
                self._catalogue.set_state(state)
                next_image, next_caption = self._catalogue.next_ids()
                self._catalogue.set_meta(
                    next_image_id=str(next_image + len(images)),
                    next_caption_id=str(next_caption + len(captions)),
                    **{_SAVED_JOURNAL: self._journal.path.name if self._journal else ""},
                )
        self._merge_small()
        try:
            self.learn_relevance()
        except SearchIndexError as error:
            logger.warning("%s: learned nothing of relevance (%s)", self.folder, error)

    def _clear_journals(self) -> None:
        """Remove the journals, as all that they hold is saved."""
        try:
            journal, self._journal = self._journal, None
            if journal is not None:
                journal.clear()
            while self._left:
                self._left[-1].unlink(missing_ok=True)
                self._left.pop()
        except OSError as error:  # what they hold is found to be saved when it is read again
            logger.warning("%s: a journal stays there (%s)", self.folder, error)

    def learn_relevance(self, embed: Embed | None = None) -> bool:
        """Learn what a score is worth in this index, where it has not, or has doubled or halved.

        It learns from saved captions, if there are enough; each `save` does that by itself. See
        `relevance`.

        Args:
            embed: embeds texts as queries. Given, an index without enough captions learns from
                neutral queries.

        Returns:
            Whether it learned anything.

        Raises:
            SearchIndexError: the disk does not take it.
            VireoError: `embed` fails.
        """
        self._check_open()
        images = self._saved.images
        if not images or self._saved.version == 1:
            return False
        known = self._catalogue.relevance()
        stale = known is None or known.is_stale(images)
        if not stale and known is not None and known.source == CAPTIONS:
            return False
        learned = self._learn_from_captions()
        if learned is None and embed is not None and stale:
            learned = learn_from_neutral_queries(embed, self._nearest_images, images)
        if learned is None:
            return False
        state = self._next_state()
        with self._saving(state, self._pending), self._catalogue.transaction():
            self._catalogue.check_state(self._saved)
            self._catalogue.set_meta(**{RELEVANCE_KEY: learned.to_json()})
            self._catalogue.set_state(state)
        return True

    def _learn_from_captions(self) -> Relevance | None:
        if self._saved.captions < MIN_CAPTIONS:
            return None
        with self._catalogue.moment() as db:
            captions, own = sample_captions(db, self._saved.images)
        vectors = self._vectors_of("captions", captions)
        return learn_from_captions(vectors, own, self._nearest_images, self._saved.images)

    def _nearest_images(self, queries: Embeddings, k: int) -> tuple[Embeddings, Rows]:
        return nearest(self._segments("images"), queries, k)

    def compact(
        self, kind: str = AUTO, target_recall: float = 0.99, progress: Progress | None = None
    ) -> None:
        """Merge all segments into one a part, and build a search structure over each.

        Changes that are not saved are saved first. Removed embeddings leave the disk. It reads and
        writes all embeddings, block by block. An interruption leaves the index as it was.

        Args:
            kind: one of `kinds.KINDS`, or `auto`, which chooses by the number of embeddings.
            target_recall: the share of the exact 10 best that a search finds, from 0 to 1.
            progress: called with a step's name, what is done of it and what there is to do.

        Raises:
            DataError: there is no such kind, or the target is out of range.
            SearchIndexError: the disk does not take it. The index stays as it was.
        """
        self.save()
        state = self._next_state()
        replaced = [s for part in PARTS for s in self._segments(part)]
        queries = sample(self._segments("captions"))
        with self._saving(state, self._pending):
            self._catalogue.check_state(self._saved)
            written = []
            for part in PARTS:
                merged = self._merge(state, self._segments(part), progress)
                if merged is not None:
                    segment = open_segment(self.folder, merged, self._dim, NO_ROWS)
                    written.append(
                        build_structure(
                            self.folder,
                            segment,
                            kind,
                            target_recall,
                            queries if part == "images" else None,
                            progress,
                        )
                    )
            self._replace(state, replaced, written, kind=kind, target_recall=str(target_recall))
        self._sweep()

    def compact_if_due(self, progress: Progress | None = None) -> bool:
        """Compact with the kind of the last compaction, where searches would be notably faster.

        They would when over a quarter of a part's embeddings were added or removed since. Unlike
        `save`, it takes minutes for millions of embeddings, so that `save` never does it by itself.

        Returns:
            Whether it did.

        Raises:
            SearchIndexError: the disk does not take it. The index stays as it was.
        """
        self.save()
        kind = self._catalogue.meta("kind") or AUTO
        if not any(is_due(self._segments(part), self._dim, kind) for part in PARTS):
            return False
        self.compact(kind, float(self._catalogue.meta("target_recall") or 0.99), progress)
        return True

    def _merge_small(self) -> None:
        """Merge the newest segments where there are many; what fails here can wait."""
        merging = {part: mergeable(self._segments(part)) for part in PARTS}
        if not any(merging.values()):
            return
        state = self._next_state()
        try:
            with self._saving(state, self._pending):
                merged = [self._merge(state, segments) for segments in merging.values() if segments]
                replaced = [segment for segments in merging.values() for segment in segments]
                self._replace(state, replaced, [entry for entry in merged if entry is not None])
        except SearchIndexError as error:
            logger.warning("%s: small segments stay as they are (%s)", self.folder, error)
        self._sweep()

    def _merge(
        self, state: State, segments: Sequence[Segment], progress: Progress | None = None
    ) -> SegmentRow | None:
        if not segments:
            return None
        name = segment_name(segments[0].entry.part, state.generation, state.writer_id)
        return merge(self.folder, name, segments, self._dim, progress)

    def _replace(
        self, state: State, old: Sequence[Segment], new: Sequence[SegmentRow], **meta: str
    ) -> None:
        with self._catalogue.transaction():
            self._catalogue.check_state(self._saved)
            self._catalogue.remove_segments([segment.entry.name for segment in old])
            self._catalogue.add_segments(new)
            self._catalogue.set_state(state)
            self._catalogue.set_meta(**meta)

    def _next_state(self) -> State:
        return self._saved._replace(
            generation=self._saved.generation + 1, writer_id=self._writer_id
        )

    def _convert(self) -> None:
        state = self._next_state()._replace(version=2)
        with self._saving(state, self._pending):
            parts = {part: self._segments(part) for part in PARTS}
            convert(self.folder, self._catalogue, self._saved, state, parts)
        self._sweep()

    def _new_rows(self) -> tuple[list[ImageRow], list[CaptionRow]]:
        """Give each image and caption that was added its id."""
        next_image, next_caption = self._catalogue.next_ids()
        images: list[ImageRow] = []
        captions: list[CaptionRow] = []
        for id_, image in enumerate(self._pending.added.values(), next_image):
            images.append(ImageRow(id_, image.path, image.sha256, image.stamp))
            for text in image.captions:
                captions.append(CaptionRow(next_caption + len(captions), id_, text))
        return images, captions

    def _write_segments(
        self, state: State, images: Sequence[ImageRow], captions: Sequence[CaptionRow]
    ) -> list[SegmentRow]:
        added = self._pending.added.values()
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
                written.append(write_segment(self.folder, name, part, ids, blocks, self._dim))
        return written

    @contextmanager
    def _saving(self, state: State, pending: Pending) -> Iterator[None]:
        """Move to a state once the block has committed it, whatever fails after the commit."""
        try:
            yield
            self._settle(state, pending)
        except BaseException as error:
            self._writer_id = _new_writer_id()
            # The commit may have taken effect all the same, as with a Ctrl-C right after it.
            if self._catalogue.state() == state:
                self._settle(state, pending)
            else:  # only files of its own: should the lock be lost, others may be at work
                drop_segments(self.folder, state.generation, state.writer_id)
            if isinstance(error, (OSError, MemoryError, sqlite3.Error, SearchIndexError)):
                raise SearchIndexError(f"{self.folder}: cannot be saved ({error})") from error
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise SearchIndexError(f"{self.folder}: the index is closed")

    def _settle(self, state: State, pending: Pending) -> None:
        if pending is not self._pending:  # which is saved now
            self._clear_journals()
        self._vectors = load_vectors(
            self.folder, self._catalogue, self._dim, self._vectors, structures=False
        )
        self._pending = pending

    def close(self) -> None:
        """Close the catalogue and give the lock back; unsaved changes are dropped."""
        if self._journal is not None:
            self._journal.clear()
            self._journal = None
        self._closed = True
        self._closing.close()

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _not_indexed(path: str) -> DataError:
    return DataError(f"{path}: no image of this path is indexed; nothing was changed")


def _new_writer_id() -> str:
    return secrets.token_hex(4)
