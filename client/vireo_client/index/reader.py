"""An index opened for reading.

An index is a folder: embeddings (FAISS) and their catalogue (SQLite), always of one moment. A
reader keeps the embeddings of one committed state in memory and asks the catalogue for the rows of
its hits, together with the state that these rows are of. If that is another state than the
embeddings', the reader moves on and searches again, so that every answer is of one state whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ..bundle import Bundle
from ..errors import SearchIndexError
from ..forks import renew_after_fork
from .catalogue import CATALOGUE_FILE, Catalogue, Found
from .matches import Embeddings, Matches, matches_of, nearest
from .vectors import Vectors, load_vectors

# A search that finds a newer state starts anew. Each attempt that fails means one more save while
# one search ran, so that this many in a row mean a fault.
_SEARCH_ATTEMPTS = 100


class _Opened(NamedTuple):
    """A catalogue, and the embeddings of one of its states."""

    catalogue: Catalogue
    vectors: Vectors


class Index:
    """Images and captions of one folder, to be searched; threads may share it.

    It needs no lock and disturbs no writer. Each search answers from the newest committed state:
    what a writer saved before the search began is found, what it removed is not. Only while another
    thread reads that state, the one before may answer, if all of its hits are still there. An index
    that was deleted and made anew at the same path is followed too.

    Args:
        folder: the index.
        bundle: the bundle whose embeddings these are; another bundle's index is refused.

    Raises:
        SearchIndexError: there is no index, or it is damaged, or another bundle made it.
    """

    def __init__(self, folder: str | Path, bundle: Bundle) -> None:
        self.folder = Path(folder)
        self._bundle = bundle
        self._refreshing = Lock()
        self._closed = False
        # A search takes this one reference once: it sees the old state or the new one whole.
        self._opened = self._open()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent may have held; children have no such thread."""
        self._refreshing = Lock()

    def _open(self) -> _Opened:
        try:
            catalogue = Catalogue(self.folder / CATALOGUE_FILE)
            try:
                return _Opened(catalogue, self._load(catalogue))
            except BaseException:
                catalogue.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise SearchIndexError(f"{self.folder}: cannot be opened ({error})") from error

    def _load(self, catalogue: Catalogue) -> Vectors:
        catalogue.check_bundle(self._bundle)
        return load_vectors(self.folder, catalogue, self._bundle.config.embedding_dim)

    def __len__(self) -> int:
        return self._opened.vectors.state.images

    @property
    def captions(self) -> int:
        """The number of captions."""
        return self._opened.vectors.state.captions

    def refresh(self) -> bool:
        """Move to the newest committed state, as the next search does by itself.

        A service may call it in a thread of its own, so that no search has to wait while a large
        index is read: the searches of other threads go on meanwhile.

        Returns:
            Whether anything was saved since the index was opened, searched or refreshed last.

        Raises:
            SearchIndexError: the new state is damaged or of another bundle, or the folder was
                deleted. The index stays at the state it had, and the next search tries again.
        """
        with self._refreshing:
            self._check_open()
            catalogue, vectors = self._opened
            # Before any statement: SQLite must not take the new file's journal for the old one's.
            if not catalogue.is_in_place():
                self._opened = self._open()
                catalogue.close()
                return True
            if catalogue.saved() == vectors.state[:2]:
                return False
            self._opened = _Opened(catalogue, self._load(catalogue))
            return True

    def search_images(self, queries: Embeddings, k: int) -> list[Matches]:
        """Find the `k` nearest images of each query.

        Args:
            queries: unit vectors FP32 `[N, D]`.
            k: how many matches of each query, at most; from 1.

        Returns:
            The matches of each query, at most `k`, best first, all of one state of the index.

        Raises:
            DataError: `k` is not a whole number from 1.
            SearchIndexError: the index is closed, its catalogue cannot be read, or `refresh`
                failed to move to a state that was saved since.
        """
        return self._search(lambda v: v.images, Catalogue.images, queries, k)

    def search_captions(self, queries: Embeddings, k: int) -> list[Matches]:
        """Find the `k` nearest captions of each query; as `search_images`."""
        return self._search(lambda v: v.captions, Catalogue.captions, queries, k)

    def _search(
        self,
        part: Callable[[Vectors], Any],
        look_up: Callable[[Catalogue, Iterable[int]], Found],
        queries: Embeddings,
        k: int,
    ) -> list[Matches]:
        for _ in range(_SEARCH_ATTEMPTS):
            self._check_open()
            opened = self._opened
            if opened.catalogue.is_in_place():
                hits = nearest(part(opened.vectors), queries, k)
                ids = {id_ for row in hits for id_, _ in row}
                try:
                    found = look_up(opened.catalogue, ids)
                except SearchIndexError:
                    # Another thread moved on to a new file and closed this one.
                    if self._opened.catalogue is opened.catalogue:
                        raise
                    continue
                complete = len(found.rows) == len(ids)
                current = found.saved == opened.vectors.state[:2]
                # Rows are never changed: while another thread reads the newer state, an answer
                # whose rows are all there still is the older state's.
                if complete and (current or self._refreshing.locked()):
                    return matches_of(hits, found.rows)
                if current:
                    raise SearchIndexError(
                        f"{opened.catalogue.path}: has no row for {len(ids) - len(found.rows)} of "
                        "its embeddings; index the images again into a new folder"
                    )
            self.refresh()
        raise SearchIndexError(
            f"{self.folder}: was saved {_SEARCH_ATTEMPTS} times during one search; try again"
        )

    def _check_open(self) -> None:
        if self._closed:
            raise SearchIndexError(f"{self.folder}: the index is closed")

    def close(self) -> None:
        """Close the catalogue; calling it twice does no harm."""
        self._closed = True
        with self._refreshing:
            self._opened.catalogue.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
