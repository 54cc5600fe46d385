"""An index is a folder: vectors (FAISS) and their catalogue (SQLite), always of one moment.

The vectors of a generation lie in files of their own (`images-7.faiss`, `captions-7.faiss`) that
are written and synced first; then one SQLite transaction writes the rows and the generation's
number. That commit is the moment the new index exists: a kill before it leaves the old one, a kill
after it the new one, and files of other generations are swept away at the next opening for writing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..errors import SearchIndexError
from .catalogue import CATALOGUE_FILE, CaptionRow, Catalogue, FileStamp, ImageRow

Embeddings = npt.NDArray[np.float32]
_LOCK_FILE = "writer.lock"
_READ_ATTEMPTS = 5


class Match(NamedTuple):
    """One hit."""

    rank: int
    """From 1."""
    score: float
    """Cosine similarity, between -1 and 1."""
    path: str
    """The picture, or the picture that the sentence describes."""
    caption: str | None = None
    """The sentence, where sentences were searched."""


class NewImage(NamedTuple):
    """A picture to add: where it lies, what it is, its vector and its sentences'."""

    path: str
    sha256: str
    stamp: FileStamp
    embedding: Embeddings
    """FP32 `[D]`."""
    captions: tuple[str, ...] = ()
    caption_embeddings: Embeddings | None = None
    """FP32 `[len(captions), D]`."""


@dataclass
class _Pending:
    images: list[ImageRow] = field(default_factory=list)
    captions: list[CaptionRow] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)


class Index:
    """Vectors and rows of one folder, opened for reading or for writing.

    Args:
        folder: the index; with `write`, it is made if it does not exist.
        bundle: whose vectors these are; another bundle's index is refused.
        write: take the folder's write lock. Readers need none.

    Raises:
        SearchIndexError: no index, a damaged one, another bundle's, or another writer at work.
    """

    def __init__(self, folder: str | Path, bundle: Bundle, *, write: bool = False) -> None:
        self.folder = Path(folder)
        self._dim = bundle.config.embedding_dim
        self._lock: sqlite3.Connection | None = None
        self._catalogue: Catalogue | None = None
        try:
            self._open(bundle, write)
        except BaseException as error:
            self.close()
            if isinstance(error, (OSError, sqlite3.Error)):
                raise SearchIndexError(f"{self.folder}: cannot be opened ({error})") from error
            raise

    def _open(self, bundle: Bundle, write: bool) -> None:
        path = self.folder / CATALOGUE_FILE
        created = None
        if write:
            if self.folder.is_dir() and not path.is_file() and self._holds_other_files():
                raise SearchIndexError(
                    f"{self.folder}: holds other files and no index; choose another folder"
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            # A writer that was killed at its very start leaves an empty catalogue.
            if not path.is_file() or path.stat().st_size == 0:
                created = {"bundle_id": bundle.bundle_id, "generation": "0"}
        self._catalogue = Catalogue(path, create=created)
        self._check(bundle)
        self._load()
        if write:
            self._catalogue.set_meta(model=str(bundle.folder.resolve()))
            self._sweep()
        self._pending = _Pending()
        self._next_image, self._next_caption = self._catalogue.next_ids()
        self._stamps = self._catalogue.stamps() if write else {}

    def _holds_other_files(self) -> bool:
        ours = (_LOCK_FILE, CATALOGUE_FILE)
        return any(not entry.name.startswith(ours) for entry in self.folder.iterdir())

    @property
    def _rows(self) -> Catalogue:
        if self._catalogue is None:
            raise SearchIndexError(f"{self.folder}: the index is closed")
        return self._catalogue

    def _take_lock(self) -> None:
        # SQLite's file lock works on every system and goes with the process that held it.
        self._lock = sqlite3.connect(self.folder / _LOCK_FILE, timeout=0, isolation_level=None)
        try:
            self._lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            raise SearchIndexError(f"{self.folder}: another process is writing here") from None

    def _check(self, bundle: Bundle) -> None:
        made_by = self._rows.meta("bundle_id")
        if made_by != bundle.bundle_id:
            raise SearchIndexError(
                f"{self.folder}: made by bundle {made_by}, but {bundle.folder} is bundle "
                f"{bundle.bundle_id}; use that bundle, or index the pictures again elsewhere"
            )

    def _load(self) -> None:
        for attempt in range(1, _READ_ATTEMPTS + 1):
            generation, images, captions = self._rows.state()
            try:
                self._images = self._read("images", generation, images)
                self._captions = self._read("captions", generation, captions)
            except SearchIndexError:
                # A writer may have saved the next generation since, and swept this one away.
                if self._rows.state()[0] == generation or attempt == _READ_ATTEMPTS:
                    raise
                continue
            self._generation = generation
            return

    def _read(self, kind: str, generation: int, expected: int) -> faiss.IndexIDMap2:
        if generation == 0:
            return faiss.IndexIDMap2(faiss.IndexFlatIP(self._dim))
        path = self._vectors(kind, generation)
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            reason = str(error).rpartition("Error: ")[2]
            raise SearchIndexError(
                f"{path}: cannot be read ({reason}); index the pictures again into a new folder"
            ) from None
        if index.ntotal != expected or index.d != self._dim:
            raise SearchIndexError(
                f"{path}: {index.ntotal} vectors of size {index.d}, the catalogue has {expected} "
                f"of size {self._dim}; index the pictures again into a new folder"
            )
        return index  # type: ignore[return-value]

    def _vectors(self, kind: str, generation: int) -> Path:
        return self.folder / f"{kind}-{generation}.faiss"

    def _sweep(self) -> None:
        current = {self._vectors(kind, self._generation) for kind in ("images", "captions")}
        for path in self.folder.glob("*.faiss"):
            if path not in current:
                path.unlink()

    def __len__(self) -> int:
        return int(self._images.ntotal)

    @property
    def captions(self) -> int:
        """Number of sentences."""
        return int(self._captions.ntotal)

    def is_current(self, path: str, stamp: FileStamp) -> bool:
        """Whether the picture is indexed and neither its file nor its sentences changed since.

        A stamp without sentences is content with those that are indexed.
        """
        known = self._stamps.get(path)
        if known is None:
            return False
        return known[1] == (stamp if stamp.captions else stamp._replace(captions=known[1].captions))

    def add(self, images: Sequence[NewImage]) -> None:
        """Adds pictures, replacing those of the same path; `save` makes it lasting."""
        replaced = [self._stamps[i.path][0] for i in images if i.path in self._stamps]
        self._remove(replaced)
        ids, caption_ids, caption_vectors = [], [], []
        for image in images:
            ids.append(self._next_image)
            row = ImageRow(self._next_image, image.path, image.sha256, image.stamp)
            self._pending.images.append(row)
            self._stamps[image.path] = (self._next_image, image.stamp)
            for text in image.captions:
                self._pending.captions.append(
                    CaptionRow(self._next_caption, self._next_image, text)
                )
                caption_ids.append(self._next_caption)
                self._next_caption += 1
            if image.caption_embeddings is not None and image.captions:
                caption_vectors.append(image.caption_embeddings)
            self._next_image += 1
        if ids:
            vectors = np.stack([image.embedding for image in images])
            self._images.add_with_ids(vectors, np.array(ids, dtype=np.int64))
        if caption_ids:
            vectors = np.concatenate(caption_vectors)
            self._captions.add_with_ids(vectors, np.array(caption_ids, dtype=np.int64))

    def _remove(self, image_ids: list[int]) -> None:
        if not image_ids:
            return
        gone = set(image_ids)
        unsaved = [row.id for row in self._pending.captions if row.image_id in gone]
        captions = self._rows.caption_ids(image_ids) + unsaved
        self._images.remove_ids(faiss.IDSelectorBatch(np.array(image_ids, dtype=np.int64)))
        if captions:
            self._captions.remove_ids(faiss.IDSelectorBatch(np.array(captions, dtype=np.int64)))
        self._pending.images = [r for r in self._pending.images if r.id not in gone]
        self._pending.captions = [r for r in self._pending.captions if r.image_id not in gone]
        self._pending.removed += image_ids

    def save(self) -> None:
        """Makes everything added so far lasting, in one step.

        Raises:
            SearchIndexError: the disk does not take it; the index stays as it was saved last.
        """
        generation = self._generation + 1
        try:
            for kind, index in (("images", self._images), ("captions", self._captions)):
                path = self._vectors(kind, generation)
                faiss.write_index(index, str(path))
                _sync(path)
            _sync(self.folder)
            with self._rows.transaction():
                self._rows.remove_images(self._pending.removed)
                self._rows.add(self._pending.images, self._pending.captions)
                self._rows.set_meta(
                    generation=str(generation),
                    next_image_id=str(self._next_image),
                    next_caption_id=str(self._next_caption),
                )
        except (RuntimeError, OSError, sqlite3.Error) as error:
            raise SearchIndexError(f"{self.folder}: cannot be saved ({error})") from error
        self._generation = generation
        self._pending = _Pending()
        self._sweep()

    def search_images(self, queries: Embeddings, k: int) -> list[list[Match]]:
        """Finds the `k` nearest pictures of each query.

        Args:
            queries: unit vectors FP32 `[N, D]`.

        Returns:
            N lists of at most `k` matches, best first.
        """
        hits = _nearest(self._images, queries, k)
        paths = self._rows.images(sorted({i for row in hits for i, _ in row}))
        # A writer may have removed a row since this index was opened: such a hit is left out.
        known = [[(paths[i], score) for i, score in row if i in paths] for row in hits]
        return [[Match(r, s, path) for r, (path, s) in enumerate(row, 1)] for row in known]

    def search_captions(self, queries: Embeddings, k: int) -> list[list[Match]]:
        """Finds the `k` nearest sentences of each query; as `search_images`."""
        hits = _nearest(self._captions, queries, k)
        found = self._rows.captions(sorted({i for row in hits for i, _ in row}))
        known = [[(*found[i], score) for i, score in row if i in found] for row in hits]
        return [
            [Match(r, s, path, text) for r, (text, path, s) in enumerate(row, 1)] for row in known
        ]

    def close(self) -> None:
        """Closes the catalogue and gives the write lock back; unsaved additions are dropped."""
        if self._catalogue is not None:
            self._catalogue.close()
            self._catalogue = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def recorded_model(folder: str | Path) -> Path:
    """The model folder that last wrote this index, so that a search need not name it.

    Raises:
        SearchIndexError: there is no index.
    """
    catalogue = Catalogue(Path(folder) / CATALOGUE_FILE)
    try:
        model = Path(catalogue.meta("model") or "")
    finally:
        catalogue.close()
    if not model.is_dir():
        raise SearchIndexError(f"{folder}: was made with {model}, which is gone; give --model")
    return model


def _nearest(index: Any, queries: Embeddings, k: int) -> list[list[tuple[int, float]]]:
    k = min(k, index.ntotal)
    if k == 0:
        return [[] for _ in queries]
    # A flat search is shared out by query: further threads only wait, and where another OpenMP
    # runtime spins beside them (torch's, say) that wait costs twenty times the search itself.
    faiss.omp_set_num_threads(min(len(queries), os.cpu_count() or 1))
    scores, ids = index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
    return [
        [(int(i), float(s)) for i, s in zip(row_ids, row_scores, strict=True)]
        for row_ids, row_scores in zip(ids, scores, strict=True)
    ]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
