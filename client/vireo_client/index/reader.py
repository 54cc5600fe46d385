"""An index opened for reading.

An index is a folder: embeddings (segments) and their catalogue (SQLite), always of one moment. A
reader maps the segments of one committed state into memory and asks the catalogue for the rows of
its hits, together with the state that these rows are of. If that is another state than the
embeddings', the reader moves on and searches again, so that every answer is of one state whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import NamedTuple, TypeVar

import numpy as np

from ..bundle import Bundle
from ..errors import DataError, SearchIndexError
from ..forks import renew_after_fork
from .catalogue import CATALOGUE_FILE, Catalogue
from .exact import Embeddings, Rows
from .facets import Facets
from .filters import Filter
from .kinds import SearchSettings
from .loading import Vectors, load_vectors
from .matches import Matches
from .nearest import nearest
from .relevance import Relevance
from .rows import FoundRow, ImageRow
from .segments import embeddings_of

T = TypeVar("T")

# A search that finds a newer state starts anew. Each attempt that fails means one more save while
# one search ran, so that this many in a row mean a fault.
_SEARCH_ATTEMPTS = 100


class _Opened(NamedTuple):
    """A catalogue, the embeddings of one of its states, and what it has learned of relevance."""

    catalogue: Catalogue
    vectors: Vectors
    relevance: Relevance | None


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
                return self._load(catalogue)
            except BaseException:
                catalogue.close()
                raise
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            raise SearchIndexError(f"{self.folder}: cannot be opened ({error})") from error

    def _load(self, catalogue: Catalogue, before: Vectors | None = None) -> _Opened:
        catalogue.check_bundle(self._bundle)
        dim = self._bundle.config.embedding_dim
        vectors = load_vectors(self.folder, catalogue, dim, before)
        return _Opened(catalogue, vectors, catalogue.relevance())

    def __len__(self) -> int:
        return self._opened.vectors.state.images

    @property
    def captions(self) -> int:
        """The number of captions."""
        return self._opened.vectors.state.captions

    @property
    def generation(self) -> int:
        """The number of saves until the state that the last search answered from."""
        return self._opened.vectors.state.generation

    @property
    def relevance(self) -> Relevance | None:
        """What the index has learned of the scores of text queries with its images.

        None if it has neither enough captions nor learned from neutral queries.
        """
        return self._opened.relevance

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
            catalogue, vectors, _ = self._opened
            # Before any statement: SQLite must not take the new file's journal for the old one's.
            if not catalogue.is_in_place():
                self._opened = self._open()
                catalogue.close()
                return True
            if catalogue.saved() == vectors.state[:2]:
                return False
            self._opened = self._load(catalogue, vectors)
            return True

    def search_images(
        self,
        queries: Embeddings,
        k: int,
        *,
        filter: Filter | None = None,  # noqa: A002
        search: SearchSettings | None = None,
        min_score: float | None = None,
    ) -> list[Matches]:
        """Find the `k` nearest images of each query.

        Args:
            queries: unit vectors FP32 `[N, D]`.
            k: how many matches of each query, at most; from 1.
            filter: which images may be found, as text, dict or tree (see `filters`); all, if None.
            search: how to use the index's search structures; as they were tuned, by default.
            min_score: the least score of a match.

        Returns:
            The matches of each query, at most `k`, best first, all of one state of the index. Of
            two with the same score, the one that was added first comes first.

        Raises:
            DataError: `k` is not a whole number from 1, the queries are of another size, or the
                filter cannot be understood.
            SearchIndexError: the index is closed, its catalogue cannot be read, or `refresh`
                failed to move to a state that was saved since.
        """
        return self._search("images", queries, k, filter, search, min_score)

    def search_captions(
        self,
        queries: Embeddings,
        k: int,
        *,
        filter: Filter | None = None,  # noqa: A002
        search: SearchSettings | None = None,
        min_score: float | None = None,
    ) -> list[Matches]:
        """Find the `k` nearest captions of each query; as `search_images`.

        The captions of the images that pass a filter pass it.
        """
        return self._search("captions", queries, k, filter, search, min_score)

    def search_words(
        self,
        text: str,
        k: int,
        *,
        filter: Filter | None = None,  # noqa: A002
    ) -> Matches:
        """Find the `k` images whose names, captions and texts have the words of a query best.

        Args:
            text: the query.
            k: how many matches, at most; from 1.
            filter: which images may be found; all, if None.

        Returns:
            The matches, best first; the scores are those of `words.search`, and no cosines.

        Raises:
            DataError: the query has no words, or as `search_images`.
            SearchIndexError: as `search_images`.
        """
        k = checked_k(k)
        hits, found = self._read(lambda opened: opened.catalogue.search_words(text, k, filter))
        ids = np.array([id_ for id_, _ in hits], dtype=np.int64)
        scores = np.array([score for _, score in hits], dtype=np.float32)
        return _matches(scores, ids, found.rows)

    def rows(self, ids: Iterable[int]) -> dict[int, FoundRow]:
        """Return path and metadata of images by id; an id that is no image's is left out.

        Raises:
            SearchIndexError: as `search_images`.
        """
        wanted = [int(id_) for id_ in ids]
        return self._read(lambda opened: opened.catalogue.images(wanted)).rows

    def files(self, ids: Iterable[int]) -> dict[int, ImageRow]:
        """Return path, SHA-256 and stamp of images by id; an id that is no image's is left out.

        Raises:
            SearchIndexError: as `search_images`.
        """
        wanted = [int(id_) for id_ in ids]
        return self._read(lambda opened: opened.catalogue.image_rows(wanted))

    def captions_of(self, ids: Iterable[int]) -> dict[int, list[str]]:
        """Return the captions of images by id, in their order; an image without any is left out.

        Raises:
            SearchIndexError: as `search_images`.
        """
        wanted = [int(id_) for id_ in ids]
        return self._read(lambda opened: opened.catalogue.captions_by_image(wanted))

    def facets(self) -> Facets:
        """Tell what there is to filter by: columns and their frequent values, folders, dates.

        It reads all rows, through a connection of its own: no search waits for it.

        Raises:
            SearchIndexError: there is no index any more, or its catalogue cannot be read.
        """
        self._check_open()
        with closing(Catalogue(self.folder / CATALOGUE_FILE)) as catalogue:
            return catalogue.facets()

    def embeddings(self, ids: Iterable[int]) -> dict[int, Embeddings]:
        """Return the embeddings of images by id, FP32 `[D]`; an id that is no image's is left out.

        They are of the state that the last search answered from.

        Raises:
            SearchIndexError: the index is closed.
        """
        self._check_open()
        wanted = np.fromiter(ids, dtype=np.int64)
        return embeddings_of(self._opened.vectors.parts["images"], wanted)

    def _read(self, read: Callable[[_Opened], T | None]) -> T:
        """Read from the newest state; `read` returns None where its state is not the newest."""
        for _ in range(_SEARCH_ATTEMPTS):
            self._check_open()
            opened = self._opened
            if opened.catalogue.is_in_place():
                try:
                    found = read(opened)
                except SearchIndexError:
                    # Another thread moved on to a new file and closed this one.
                    if self._opened.catalogue is opened.catalogue:
                        raise
                    continue
                if found is not None:
                    return found
            self.refresh()
        raise SearchIndexError(
            f"{self.folder}: was saved {_SEARCH_ATTEMPTS} times during one search; try again"
        )

    def _search(
        self,
        part: str,
        queries: Embeddings,
        k: int,
        filter_: Filter | None,
        search: SearchSettings | None,
        min_score: float | None,
    ) -> list[Matches]:
        k = checked_k(k)
        queries = self._checked(queries)
        found = self._read(lambda opened: self._answer(opened, part, queries, k, filter_, search))
        if min_score is None:
            return found
        return [m.where(m.scores >= np.float32(min_score)) for m in found]

    def _answer(
        self,
        opened: _Opened,
        part: str,
        queries: Embeddings,
        k: int,
        filter_: Filter | None,
        search: SearchSettings | None,
    ) -> list[Matches] | None:
        """Search one state; None where the catalogue has moved on to a newer one."""
        catalogue, vectors, _ = opened
        allowed = None
        if filter_ is not None:
            of, allowed = catalogue.filtered(part, filter_)
            if of != vectors.state[:2]:
                return None
        scores, ids = nearest(vectors.parts[part], queries, k, search, allowed)
        distinct = set(ids.ravel().tolist())
        distinct.discard(-1)
        found = catalogue.images(distinct) if part == "images" else catalogue.captions(distinct)
        complete = len(found.rows) == len(distinct)
        current = found.saved == vectors.state[:2]
        # Rows are never changed: while another thread reads the newer state, an answer whose rows
        # are all there still is the older state's.
        if complete and (current or self._refreshing.locked()):
            return [_matches(*hits, found.rows) for hits in zip(scores, ids, strict=True)]
        if current:
            raise SearchIndexError(
                f"{catalogue.path}: has no row for {len(distinct) - len(found.rows)} of its "
                "embeddings; see `vireo index verify`"
            )
        return None

    def _checked(self, queries: Embeddings) -> Embeddings:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        dim = self._bundle.config.embedding_dim
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise DataError(
                f"queries of shape {queries.shape}; give a matrix with one row of size {dim} a "
                "query"
            )
        if not np.isfinite(queries).all():
            raise DataError("a query holds what is no number (NaN or infinity)")
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


def checked_k(k: int) -> int:
    """Return `k` as an int, NumPy's integers too.

    Raises:
        DataError: it is not a whole number from 1.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise DataError(f"k is {k!r}; give the number of matches, a whole number from 1")
    return int(k)


def _matches(scores: Embeddings, ids: Rows, rows: Mapping[int, FoundRow]) -> Matches:
    """Name the image, or the image and caption, of each hit of one query."""
    found = [rows[id_] for id_ in ids.tolist() if id_ >= 0]
    ids, scores = ids[: len(found)], scores[: len(found)]
    with_text = bool(found) and found[0].text is not None
    return Matches(
        ids,
        scores,
        [row.path for row in found],
        [row.text for row in found] if with_text else None,
        metadata=[row.fields for row in found],
    )
