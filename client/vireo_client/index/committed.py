"""The committed state of an index in the hands of its writer, and the step to the next one."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import SearchIndexError
from .exact import Embeddings, Rows
from .legacy import convert, sweep_legacy
from .loading import load_vectors
from .nearest import nearest
from .rows import State
from .segments import PARTS, Segment, SegmentRow, embeddings_of
from .storage import drop_segments, sweep_segments
from .writable import WritableCatalogue


class Committed:
    """The newest state that a writer knows, which it alone moves on.

    Args:
        folder: the index.
        catalogue: its catalogue.
        dim: the embedding size.

    Raises:
        SearchIndexError: a file is missing, damaged, or does not fit the catalogue.
    """

    def __init__(self, folder: Path, catalogue: WritableCatalogue, dim: int) -> None:
        self.folder, self.catalogue, self.dim = folder, catalogue, dim
        # Drawn anew after a save that failed: a name that was written once is not written again.
        self._writer_id = _new_writer_id()
        self._vectors = load_vectors(folder, catalogue, dim, structures=False)

    @property
    def state(self) -> State:
        """The state."""
        return self._vectors.state

    def segments(self, part: str) -> list[Segment]:
        """Return the segments of `images` or of `captions`, without their search structures."""
        return self._vectors.parts[part]

    def embeddings(self, part: str, ids: Sequence[int]) -> Embeddings:
        """Return the embeddings of ids that are there, in their order, FP32 `[N, D]`."""
        found = embeddings_of(self.segments(part), np.array(ids, dtype=np.int64))
        return np.array([found[id_] for id_ in ids], dtype=np.float32).reshape(-1, self.dim)

    def nearest_images(self, queries: Embeddings, k: int) -> tuple[Embeddings, Rows]:
        """Find the `k` nearest images of each query; see `nearest`."""
        return nearest(self.segments("images"), queries, k)

    def next_state(self) -> State:
        """Return the state to commit next, with the numbers of this one."""
        return self.state._replace(generation=self.state.generation + 1, writer_id=self._writer_id)

    @contextmanager
    def moving_to(self, state: State, then: Callable[[], None] | None = None) -> Iterator[None]:
        """Move to a state once the block has committed it, whatever fails after the commit.

        Args:
            state: what the block commits, at its end.
            then: what to do after that; it is done again where it was interrupted.

        Raises:
            SearchIndexError: the disk does not take it, or somebody else has saved since. The index
                stays as it was.
        """
        try:
            # Before anything is written: files of a committed state are never replaced.
            self.catalogue.check_state(self.state)
            yield
            self._settle(then)
        except BaseException as error:
            self._writer_id = _new_writer_id()
            # The commit may have taken effect all the same, as with a Ctrl-C right after it.
            if self.catalogue.state() == state:
                self._settle(then)
            else:  # only files of its own: should the lock be lost, others may be at work
                drop_segments(self.folder, state.generation, state.writer_id)
            if isinstance(error, (OSError, MemoryError, sqlite3.Error, SearchIndexError)):
                raise SearchIndexError(f"{self.folder}: cannot be saved ({error})") from error
            raise

    def _settle(self, then: Callable[[], None] | None) -> None:
        self._vectors = load_vectors(
            self.folder, self.catalogue, self.dim, self._vectors, structures=False
        )
        if then is not None:
            then()

    @contextmanager
    def transaction(self, state: State) -> Iterator[WritableCatalogue]:
        """Commit a state together with all that the block writes, or nothing of it."""
        with self.catalogue.transaction():
            self.catalogue.check_state(self.state)
            yield self.catalogue
            self.catalogue.set_state(state)

    def replace(
        self, state: State, old: Sequence[Segment], new: Sequence[SegmentRow], **meta: str
    ) -> None:
        """Commit a state in which segments are replaced by others that hold the same."""
        with self.transaction(state) as catalogue:
            catalogue.remove_segments([segment.entry.name for segment in old])
            catalogue.add_segments(new)
            catalogue.set_meta(**meta)

    def convert(self) -> None:
        """Turn an index of schema 1 into one of schema 2."""
        state = self.next_state()._replace(version=2)
        with self.moving_to(state):
            convert(self.folder, self.catalogue, self.state, state, self._vectors.parts)
        self.sweep()

    def sweep(self) -> None:
        """Remove the files that the state does not name."""
        sweep_segments(self.folder, [s.entry for part in PARTS for s in self.segments(part)])
        sweep_legacy(self.folder, self.state)


def _new_writer_id() -> str:
    return secrets.token_hex(4)
