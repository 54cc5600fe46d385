"""An index opened for writing.

Changes are `pending` until `save` commits them; additions are in a journal meanwhile. Files that no
committed state names are swept away when an index is opened for writing.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..bundle import Bundle
from ..errors import DataError, SearchIndexError
from .bundle_files import record_bundle, sweep_drafts
from .catalogue import CATALOGUE_FILE
from .changes import Move, NewImage, checked
from .columns import ColumnCheck
from .committed import Committed
from .compaction import DEFAULT_RECALL, compact, compact_if_due, merge_small
from .journal import JOURNAL_PREFIX
from .journals import Journals
from .kinds import AUTO, Progress
from .learning import learn
from .lock import HOLDER_FILE, LOCK_FILE, WriterLock
from .neutral import Embed
from .pending import Pending
from .rows import FileStamp
from .saving import SAVED_JOURNAL, save
from .writable import WritableCatalogue, is_empty

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
        self._closed = False
        with ExitStack() as opened:
            try:
                self._open(bundle, opened)
            except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
                raise SearchIndexError(f"{self.folder}: cannot be opened ({error})") from error
            self._closing = opened.pop_all()

    def _open(self, bundle: Bundle, opened: ExitStack) -> None:
        path = self.folder / CATALOGUE_FILE
        self._check_for_other_files(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        opened.callback(WriterLock(self.folder).close)
        new = None
        # A writer that was killed at its very start leaves an empty catalogue.
        if is_empty(path):
            self._check_for_other_files(path)
            new = {"bundle_id": bundle.bundle_id, "generation": "0"}
        catalogue = WritableCatalogue(path, create=new)
        opened.callback(catalogue.close)
        catalogue.check_bundle(bundle)
        self._committed = Committed(self.folder, catalogue, bundle.config.embedding_dim)
        self._pending = Pending(self._committed)
        self._columns = ColumnCheck(catalogue.columns())
        opened.callback(self._columns.close)
        self._committed.sweep()
        sweep_drafts(self.folder)
        record_bundle(self.folder, catalogue, bundle)
        self._journals = Journals(self.folder)
        opened.callback(self._journals.drop_own)
        self._take_over()

    def _check_for_other_files(self, catalogue: Path) -> None:
        """Check that a folder without rows holds no embeddings, and nobody else's files."""
        if not self.folder.is_dir() or (catalogue.is_file() and catalogue.stat().st_size):
            return
        ours = (LOCK_FILE, HOLDER_FILE, CATALOGUE_FILE, JOURNAL_PREFIX)
        if all(entry.name.startswith(ours) for entry in self.folder.iterdir()):
            return
        if catalogue.is_file():
            raise SearchIndexError(
                f"{catalogue}: is empty, though there are other files; bring a snapshot back, or "
                "index the images into another folder"
            )
        raise SearchIndexError(
            f"{self.folder}: holds other files and no index; choose another folder"
        )

    def _take_over(self) -> None:
        """Save what killed writers added and did not save."""
        for path, batch in self._journals.left(self._committed.catalogue.meta(SAVED_JOURNAL)):
            try:
                images = self._checked(image for image in batch if not self._holds(image))
            except DataError as error:
                logger.warning("%s: a batch is passed over (%s)", path, error)
            else:
                self._pending.add(images)
        if self._journals.were_left:
            try:
                self.save()
            except SearchIndexError as error:  # a full disk, say: the journals stay for now
                logger.warning(
                    "%s: what was added before is not saved yet (%s)", self.folder, error
                )

    def _holds(self, image: NewImage) -> bool:
        """Return whether an image was saved just as it is."""
        catalogue = self._committed.catalogue
        saved = catalogue.stamp(image.path)
        return (
            saved is not None
            and saved[1] == image.stamp
            and catalogue.sha256(saved[0]) == image.sha256
        )

    def _checked(self, images: Iterable[NewImage]) -> list[NewImage]:
        images = [checked(image, self._committed.dim) for image in images]
        self._columns.check(images)
        return images

    def __len__(self) -> int:
        """Return the number of images, unsaved ones included."""
        return self._pending.images()

    @property
    def captions(self) -> int:
        """The number of captions, unsaved ones included."""
        return self._pending.captions()

    def is_current(self, path: str, stamp: FileStamp) -> bool:
        """Return whether an image is indexed and neither its file nor its captions changed since.

        A stamp without captions goes with any captions that are indexed.
        """
        known = self._pending.stamp(path)
        if known is not None and not stamp.captions:
            stamp = stamp._replace(captions=known.captions)
        return known == stamp

    def stamps(self) -> dict[str, FileStamp]:
        """Return the stamp of every image by its path, unsaved ones included."""
        return self._pending.all_stamps()

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every saved image's file by its path."""
        return self._pending.saved_hashes()

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
        images = self._checked(images)
        self._journals.append(images)
        self._pending.add(images)

    def move(self, moves: Sequence[Move]) -> None:
        """Give saved images new paths; they keep embedding and captions. `save` makes it lasting.

        As an id names the same image for ever, a moved image has a new one. The journal is not
        needed, as these embeddings are saved already.

        Raises:
            DataError: no image of an old path is saved; nothing was moved.
        """
        self._check_open()
        self._pending.move(moves)

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
        self._pending.restamp(path, stamp)

    def remove(self, paths: Iterable[str]) -> None:
        """Remove images and their captions; `save` makes it lasting.

        Raises:
            DataError: no image of such a path is indexed; nothing was removed.
        """
        self._check_open()
        self._pending.remove(paths)

    def save(self) -> None:
        """Make all changes so far lasting, in one step.

        It writes what was added, and a few bytes for each image that was removed. An index of
        schema 1 is turned into one of schema 2 before.

        Raises:
            SearchIndexError: the disk does not take it, or a reader holds the catalogue for too
                long. The index stays as it was saved last; `save` may be tried again.
        """
        self._check_open()
        if self._committed.state.version == 1:
            self._committed.convert()
        if not self._pending:
            self._journals.clear()
            return
        save(self._committed, self._pending, self._journals.own, self._forget_pending)
        merge_small(self._committed)
        try:
            learn(self._committed)
        except SearchIndexError as error:
            logger.warning("%s: learned nothing of relevance (%s)", self.folder, error)

    def _forget_pending(self) -> None:
        self._pending = Pending(self._committed)
        self._journals.clear()

    def learn_relevance(self, embed: Embed | None = None) -> bool:
        """Learn what a score is worth in this index, where it has not, or has doubled or halved.

        It learns from saved captions, if there are enough; each `save` does that by itself. See
        `relevance`.

        Args:
            embed: embeds texts as queries. Given, an index without enough captions learns from
                neutral queries. Once it has, each `save` learns anew from these by itself, too.

        Returns:
            Whether it learned anything.

        Raises:
            SearchIndexError: the disk does not take it.
            VireoError: `embed` fails.
        """
        self._check_open()
        return learn(self._committed, embed)

    def compact(
        self,
        kind: str = AUTO,
        target_recall: float = DEFAULT_RECALL,
        progress: Progress | None = None,
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
        compact(self._committed, kind, target_recall, progress)

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
        return compact_if_due(self._committed, progress)

    def _check_open(self) -> None:
        if self._closed:
            raise SearchIndexError(f"{self.folder}: the index is closed")

    def close(self) -> None:
        """Close the catalogue and give the lock back; unsaved changes are dropped."""
        self._closed = True
        self._closing.close()

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
