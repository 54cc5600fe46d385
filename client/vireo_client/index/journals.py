"""The journals in an index's folder: the one of its writer, and those that killed writers left."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import SearchIndexError
from .changes import NewImage
from .journal import JOURNAL_PREFIX, Journal

logger = logging.getLogger(__name__)


class Journals:
    """Keeps what is added until it is saved.

    Args:
        folder: the index, whose lock the caller holds.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: Journal | None = None
        left = folder.glob(f"{JOURNAL_PREFIX}*.bin")
        self._left = sorted(left, key=lambda path: path.stat().st_mtime_ns)

    @property
    def own(self) -> str:
        """The name of the writer's own; empty while nothing was added."""
        return self._own.path.name if self._own else ""

    @property
    def were_left(self) -> bool:
        """Whether killed writers left any."""
        return bool(self._left)

    def left(self, saved: str | None) -> Iterator[tuple[Path, list[NewImage]]]:
        """Yield the batches that killed writers added, the oldest first, with their journals.

        Args:
            saved: the name of a journal to leave out: its writer was killed after the commit.
        """
        for path in self._left:
            if path.name != saved:
                for batch in Journal(path).replay():
                    yield path, batch

    def append(self, images: Sequence[NewImage]) -> None:
        """Write one batch into the writer's own.

        Raises:
            SearchIndexError: the disk does not take it; the journal is as it was.
        """
        if self._own is None:
            self._own = Journal(self._folder / f"{JOURNAL_PREFIX}{secrets.token_hex(4)}.bin")
        try:
            self._own.append(images)
        except OSError as error:
            raise SearchIndexError(
                f"{self._folder}: cannot be written ({error}); nothing was added"
            ) from error

    def clear(self) -> None:
        """Remove all, as all that they hold is saved."""
        try:
            self.drop_own()
            while self._left:
                self._left[-1].unlink(missing_ok=True)
                self._left.pop()
        except OSError as error:  # what they hold is found to be saved when it is read again
            logger.warning("%s: a journal stays there (%s)", self._folder, error)

    def drop_own(self) -> None:
        """Remove the writer's own, with what it holds; the next addition begins another."""
        own, self._own = self._own, None
        if own is not None:
            own.clear()
