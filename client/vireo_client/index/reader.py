"""An index opened for reading.

An index is a folder: embeddings (FAISS) and their catalogue (SQLite), always of one moment. A
reader keeps the embeddings of one committed state in memory and asks the catalogue for the rows of
its hits. `refresh` moves it to the newest state.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock

from ..bundle import Bundle
from ..errors import SearchIndexError
from .catalogue import CATALOGUE_FILE, Catalogue
from .matches import Embeddings, Match, caption_matches, image_matches, nearest
from .vectors import load_vectors


class Index:
    """Images and captions of one folder, to be searched; threads may share it.

    It needs no lock and disturbs no writer. An image that a writer replaced or removed since the
    last `refresh` is left out of the matches; one that was added since is not found yet.

    Args:
        folder: the index.
        bundle: the bundle whose embeddings these are; another bundle's index is refused.

    Raises:
        SearchIndexError: there is no index, or it is damaged, or another bundle made it.
    """

    def __init__(self, folder: str | Path, bundle: Bundle) -> None:
        self.folder = Path(folder)
        self._dim = bundle.config.embedding_dim
        self._refreshing = Lock()
        try:
            self._catalogue = Catalogue(self.folder / CATALOGUE_FILE)
            try:
                self._catalogue.check_bundle(bundle)
                self._vectors = load_vectors(self.folder, self._catalogue, self._dim)
            except BaseException:
                self._catalogue.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise SearchIndexError(f"{self.folder}: cannot be opened ({error})") from error

    def __len__(self) -> int:
        return self._vectors.state.images

    @property
    def captions(self) -> int:
        """The number of captions."""
        return self._vectors.state.captions

    def refresh(self) -> bool:
        """Move to the newest committed state; searches in other threads go on meanwhile.

        Returns:
            Whether anything was saved since the index was opened or refreshed last.

        Raises:
            SearchIndexError: the new state is damaged, or the folder was deleted or replaced; the
                index stays at the state it had.
        """
        with self._refreshing:
            self._catalogue.check_in_place()
            if self._catalogue.saved() == self._vectors.state[:2]:
                return False
            # A search takes this one reference once: it sees the old state or the new one whole.
            self._vectors = load_vectors(self.folder, self._catalogue, self._dim)
            return True

    def search_images(self, queries: Embeddings, k: int) -> list[list[Match]]:
        """Find the `k` nearest images of each query.

        Args:
            queries: unit vectors FP32 `[N, D]`.
            k: how many matches of each query, at most; from 1.

        Returns:
            N lists of at most `k` matches, best first.

        Raises:
            DataError: `k` is not a whole number from 1.
            SearchIndexError: the index is closed, or its catalogue cannot be read.
        """
        return image_matches(nearest(self._vectors.images, queries, k), self._catalogue)

    def search_captions(self, queries: Embeddings, k: int) -> list[list[Match]]:
        """Find the `k` nearest captions of each query; as `search_images`."""
        return caption_matches(nearest(self._vectors.captions, queries, k), self._catalogue)

    def close(self) -> None:
        """Close the catalogue; calling it twice does no harm."""
        self._catalogue.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
