"""An index opened for reading.

An index is a folder: embeddings (segments) and their catalogue (SQLite), always of one moment. A
reader maps the segments of one committed state into memory and asks the catalogue for the rows of
its hits, together with the state that these rows are of. If that is another state than the
embeddings', the reader moves on and searches again, so that every answer is of one state whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..bundle import Bundle
from ..errors import DataError, SearchIndexError
from ..forks import renew_after_fork
from .catalogue import CATALOGUE_FILE, Catalogue
from .exact import Embeddings, Rows, best
from .kinds import SearchSettings
from .loading import Vectors, load_vectors
from .matches import Matches
from .segments import Segment

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

    def _load(self, catalogue: Catalogue, before: Vectors | None = None) -> Vectors:
        catalogue.check_bundle(self._bundle)
        return load_vectors(self.folder, catalogue, self._bundle.config.embedding_dim, before)

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
            self._opened = _Opened(catalogue, self._load(catalogue, vectors))
            return True

    def search_images(
        self, queries: Embeddings, k: int, *, search: SearchSettings | None = None
    ) -> list[Matches]:
        """Find the `k` nearest images of each query.

        Args:
            queries: unit vectors FP32 `[N, D]`.
            k: how many matches of each query, at most; from 1.
            search: how to use the index's search structures; as they were tuned, by default.

        Returns:
            The matches of each query, at most `k`, best first, all of one state of the index. Of
            two with the same score, the one that was added first comes first.

        Raises:
            DataError: `k` is not a whole number from 1, or the queries are of another size.
            SearchIndexError: the index is closed, its catalogue cannot be read, or `refresh`
                failed to move to a state that was saved since.
        """
        return self._search("images", queries, k, search)

    def search_captions(
        self, queries: Embeddings, k: int, *, search: SearchSettings | None = None
    ) -> list[Matches]:
        """Find the `k` nearest captions of each query; as `search_images`."""
        return self._search("captions", queries, k, search)

    def _search(
        self, part: str, queries: Embeddings, k: int, search: SearchSettings | None
    ) -> list[Matches]:
        k = checked_k(k)
        queries = self._checked(queries)
        look_up = Catalogue.images if part == "images" else Catalogue.captions
        for _ in range(_SEARCH_ATTEMPTS):
            self._check_open()
            opened = self._opened
            if opened.catalogue.is_in_place():
                scores, ids = nearest(opened.vectors.parts[part], queries, k, search)
                distinct = set(ids.ravel().tolist()) - {-1}
                try:
                    found = look_up(opened.catalogue, distinct)
                except SearchIndexError:
                    # Another thread moved on to a new file and closed this one.
                    if self._opened.catalogue is opened.catalogue:
                        raise
                    continue
                complete = len(found.rows) == len(distinct)
                current = found.saved == opened.vectors.state[:2]
                # Rows are never changed: while another thread reads the newer state, an answer
                # whose rows are all there still is the older state's.
                if complete and (current or self._refreshing.locked()):
                    return [_matches(*hits, found.rows) for hits in zip(scores, ids, strict=True)]
                if current:
                    raise SearchIndexError(
                        f"{opened.catalogue.path}: has no row for "
                        f"{len(distinct) - len(found.rows)} of its embeddings; see `vireo index "
                        "verify`"
                    )
            self.refresh()
        raise SearchIndexError(
            f"{self.folder}: was saved {_SEARCH_ATTEMPTS} times during one search; try again"
        )

    def _checked(self, queries: Embeddings) -> Embeddings:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        dim = self._bundle.config.embedding_dim
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise DataError(
                f"queries of shape {queries.shape}; give a matrix with one row of size {dim} a "
                "query"
            )
        return queries

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


def nearest(
    segments: Sequence[Segment], queries: Embeddings, k: int, search: SearchSettings | None = None
) -> tuple[Embeddings, Rows]:
    """Find the `k` nearest embeddings of each query over all segments.

    Args:
        segments: those of one part.
        queries: unit vectors FP32 `[N, D]`, contiguous.
        k: how many, at most.
        search: how to use the segments' search structures.

    Returns:
        Scores FP32 and ids INT64, both `[N, k]` or narrower, best first, equal scores by id; the
        id is -1 where there is no hit.
    """
    hits = [segment.search(queries, k, search=search) for segment in segments]
    if not hits:
        return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    scores, ids = (np.concatenate(found, axis=1) for found in zip(*hits, strict=True))
    return best(scores, ids, k)


def checked_k(k: int) -> int:
    """Return `k` as an int, NumPy's integers too.

    Raises:
        DataError: it is not a whole number from 1.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise DataError(f"k is {k!r}; give the number of matches, a whole number from 1")
    return int(k)


def _matches(scores: Embeddings, ids: Rows, rows: Mapping[int, tuple[str, str | None]]) -> Matches:
    """Name the image, or the image and caption, of each hit of one query."""
    count = len(ids) if ids.min(initial=0) >= 0 else int((ids >= 0).sum())
    ids, scores = ids[:count], scores[:count]
    named = [rows[id_] for id_ in ids.tolist()]
    captions = [caption for _, caption in named]
    return Matches(
        ids,
        scores,
        [path for path, _ in named],
        captions if captions and captions[0] is not None else None,
    )
