"""An index opened for writing.

A save writes the vector files of the next generation and syncs them; then one SQLite transaction
writes the rows and the names of those files. That commit is the moment the new state exists: a kill
before it leaves the old state, a kill after it the new one. Files that no committed state names are
swept away after a save and when an index is opened for writing.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np

from ..bundle import Bundle
from ..errors import SearchIndexError
from .bundle_files import record_bundle, sweep_drafts
from .catalogue import (
    CATALOGUE_FILE,
    CaptionRow,
    FileStamp,
    ImageRow,
    State,
    WritableCatalogue,
)
from .changes import Move, NewImage
from .matches import Embeddings
from .vectors import Vectors, load_vectors, sweep_vectors, write_vectors

LOCK_FILE = "writer.lock"


@dataclass
class _Pending:
    """Changes since the last save."""

    images: list[ImageRow] = field(default_factory=list)
    captions: list[CaptionRow] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    stamps: dict[int, FileStamp] = field(default_factory=dict)


class IndexWriter:
    """Adds, moves and removes images of the index in one folder, of which it is the only writer.

    Args:
        folder: the index; it is made if it does not exist.
        bundle: the bundle whose embeddings are added; another bundle's index is refused. The index
            keeps its small files and remembers where its folder lies.

    Raises:
        SearchIndexError: the folder holds other files, the index is damaged, another bundle made
            it, or another writer is at work.
    """

    def __init__(self, folder: str | Path, bundle: Bundle) -> None:
        self.folder = Path(folder)
        self._dim = bundle.config.embedding_dim
        # Drawn anew after a save that failed: a name that was written once is not written again.
        self._writer_id = _new_writer_id()
        self._pending = _Pending()
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
        self._take_lock(opened)
        new = None
        # A writer that was killed at its very start leaves an empty catalogue.
        if not path.is_file() or path.stat().st_size == 0:
            new = {"bundle_id": bundle.bundle_id, "generation": "0"}
        self._catalogue = WritableCatalogue(path, create=new)
        opened.callback(self._catalogue.close)
        self._catalogue.check_bundle(bundle)
        self._saved, self._images, self._captions = load_vectors(
            self.folder, self._catalogue, self._dim
        )
        self._next_image, self._next_caption = self._catalogue.next_ids()
        self._stamps = self._catalogue.stamps()
        sweep_vectors(self.folder, self._saved)
        sweep_drafts(self.folder)
        record_bundle(self.folder, self._catalogue, bundle)

    def _holds_other_files(self) -> bool:
        ours = (LOCK_FILE, CATALOGUE_FILE)
        return any(not entry.name.startswith(ours) for entry in self.folder.iterdir())

    def _take_lock(self, opened: ExitStack) -> None:
        # SQLite's file lock works on every system and goes with the process that held it.
        lock = sqlite3.connect(
            self.folder / LOCK_FILE, timeout=0, isolation_level=None, check_same_thread=False
        )
        opened.callback(lock.close)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise SearchIndexError(f"{self.folder}: another process is writing here") from None

    def __len__(self) -> int:
        """Return the number of images, unsaved ones included."""
        return int(self._images.ntotal)

    @property
    def captions(self) -> int:
        """The number of captions, unsaved ones included."""
        return int(self._captions.ntotal)

    def is_current(self, path: str, stamp: FileStamp) -> bool:
        """Return whether an image is indexed and neither its file nor its captions changed since.

        A stamp without captions goes with any captions that are indexed.
        """
        known = self._stamps.get(path)
        if known is None:
            return False
        return known[1] == (stamp if stamp.captions else stamp._replace(captions=known[1].captions))

    def stamps(self) -> dict[str, FileStamp]:
        """Return the stamp of every image by its path, unsaved ones included."""
        return {path: stamp for path, (_, stamp) in self._stamps.items()}

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every saved image's file by its path."""
        hashes = self._catalogue.hashes()
        return {path: hashes[i] for path, (i, _) in self._stamps.items() if i in hashes}

    def add(self, images: Sequence[NewImage]) -> None:
        """Add images, replacing those of the same path; `save` makes it lasting.

        Raises:
            ValueError: an embedding has another size than the bundle's, or there is not one for
                each caption; nothing was added.
        """
        self._check_open()
        images = list({image.path: image for image in images}.values())
        embeddings, caption_embeddings = self._checked(images)
        self._remove([self._stamps[i.path][0] for i in images if i.path in self._stamps])
        ids, caption_ids = [], []
        for image in images:
            ids.append(self._next_image)
            row = ImageRow(self._next_image, image.path, image.sha256, image.stamp)
            self._pending.images.append(row)
            self._stamps[image.path] = (self._next_image, image.stamp)
            for text in image.captions:
                caption = CaptionRow(self._next_caption, self._next_image, text)
                self._pending.captions.append(caption)
                caption_ids.append(self._next_caption)
                self._next_caption += 1
            self._next_image += 1
        # A Ctrl-C between the rows and these two lines is found when they are saved.
        self._images.add_with_ids(embeddings, np.array(ids, dtype=np.int64))
        self._captions.add_with_ids(caption_embeddings, np.array(caption_ids, dtype=np.int64))

    def move(self, moves: Sequence[Move]) -> None:
        """Give saved images new paths; they keep embedding and captions. `save` makes it lasting.

        As an id names the same image for ever, a moved image has a new one.
        """
        if not moves:
            return
        hashes = self._catalogue.hashes()
        images = []
        for move in moves:
            id_, stamp = self._stamps[move.old]
            captions = self._catalogue.captions_of(id_)
            images.append(
                NewImage(
                    move.new,
                    hashes[id_],
                    move.stamp._replace(captions=stamp.captions),
                    np.asarray(self._images.reconstruct(id_)),
                    tuple(text for _, text in captions),
                    np.stack([np.asarray(self._captions.reconstruct(i)) for i, _ in captions])
                    if captions
                    else None,
                )
            )
        # In this order: an interruption in between leaves an image twice, and loses none.
        self.add(images)
        self.remove([move.old for move in moves])

    def restamp(self, path: str, stamp: FileStamp) -> None:
        """Note another size or time of a file that has the bytes it had. `save` makes it lasting.

        The image keeps its id, embedding and captions.

        Args:
            path: the path of an indexed image.
            stamp: the file's; without captions, the image keeps those it has.
        """
        id_, known = self._stamps[path]
        if not stamp.captions:
            stamp = stamp._replace(captions=known.captions)
        self._stamps[path] = (id_, stamp)
        self._pending.stamps[id_] = stamp

    def remove(self, paths: Iterable[str]) -> None:
        """Remove images and their captions; `save` makes it lasting.

        Raises:
            KeyError: no image of such a path is indexed; nothing was removed.
        """
        self._check_open()
        paths = list(dict.fromkeys(paths))
        self._remove([self._stamps[path][0] for path in paths])
        for path in paths:
            del self._stamps[path]

    def _checked(self, images: Sequence[NewImage]) -> tuple[Embeddings, Embeddings]:
        """Gather the embeddings of images, `[N, D]`, and of their captions, `[M, D]`."""
        of_images = np.empty((len(images), self._dim), dtype=np.float32)
        of_captions = [np.empty((0, self._dim), dtype=np.float32)]
        for row, image in enumerate(images):
            if image.embedding.shape != (self._dim,):
                raise ValueError(
                    f"{image.path}: its embedding is of shape {image.embedding.shape}, the index's "
                    f"are of size {self._dim}"
                )
            of_images[row] = image.embedding
            if image.captions:
                expected = (len(image.captions), self._dim)
                if image.caption_embeddings is None or image.caption_embeddings.shape != expected:
                    raise ValueError(
                        f"{image.path}: the embeddings of its captions must be of shape {expected}"
                    )
                of_captions.append(image.caption_embeddings)
        return of_images, np.concatenate(of_captions, dtype=np.float32)

    def _remove(self, image_ids: list[int]) -> None:
        if not image_ids:
            return
        gone = set(image_ids)
        unsaved = [row.id for row in self._pending.captions if row.image_id in gone]
        captions = self._catalogue.caption_ids(image_ids) + unsaved
        self._images.remove_ids(faiss.IDSelectorBatch(np.array(image_ids, dtype=np.int64)))
        if captions:
            self._captions.remove_ids(faiss.IDSelectorBatch(np.array(captions, dtype=np.int64)))
        self._pending.images = [r for r in self._pending.images if r.id not in gone]
        self._pending.captions = [r for r in self._pending.captions if r.image_id not in gone]
        self._pending.removed += image_ids

    def save(self) -> None:
        """Make all changes so far lasting, in one step.

        Raises:
            SearchIndexError: the disk does not take it, or a reader holds the catalogue for too
                long. The index stays as it was saved last; `save` may be tried again.
        """
        self._check_open()
        state = State(self._saved.generation + 1, self._writer_id, len(self), self.captions)
        try:
            # Looked at before anything is written: files of a committed state are never replaced.
            if self._catalogue.saved() != self._saved[:2]:
                raise SearchIndexError("another writer saved in between; open it anew")
            write_vectors(self.folder, Vectors(state, self._images, self._captions))
            with self._catalogue.transaction():
                if self._catalogue.state() != self._saved:
                    raise SearchIndexError("another writer saved in between; open it anew")
                self._catalogue.remove_images(self._pending.removed)
                self._catalogue.add(self._pending.images, self._pending.captions)
                self._catalogue.restamp(self._pending.stamps)
                self._catalogue.set_meta(
                    generation=str(state.generation),
                    writer_id=state.writer_id,
                    next_image_id=str(self._next_image),
                    next_caption_id=str(self._next_caption),
                )
                if self._catalogue.state() != state:
                    raise SearchIndexError(
                        "its rows and embeddings differ in number, as an addition was cut short; "
                        "open it anew and add again"
                    )
            self._settle(state)
        except BaseException as error:
            self._writer_id = _new_writer_id()
            # The commit may have taken effect all the same, as with a Ctrl-C right after it.
            if self._catalogue.state() == state:
                self._settle(state)
            if isinstance(error, (RuntimeError, OSError, sqlite3.Error, SearchIndexError)):
                raise SearchIndexError(f"{self.folder}: cannot be saved ({error})") from error
            raise
        sweep_vectors(self.folder, state)

    def _check_open(self) -> None:
        if self._closed:
            raise SearchIndexError(f"{self.folder}: the index is closed")

    def _settle(self, state: State) -> None:
        self._saved = state
        self._pending = _Pending()

    def close(self) -> None:
        """Close the catalogue and give the lock back; unsaved changes are dropped."""
        self._closed = True
        self._closing.close()

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _new_writer_id() -> str:
    return secrets.token_hex(4)
