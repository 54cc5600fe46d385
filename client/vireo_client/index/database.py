"""The SQLite file of a catalogue: opened, shared by threads, opened anew in a forked child."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from ..errors import IndexLocked, SearchIndexError, first_line
from ..forks import abandon

CATALOGUE_FILE = "catalogue.sqlite"


class Database:
    """A connection that threads may share.

    Attributes:
        path: the SQLite file.
    """

    path: Path
    _db: sqlite3.Connection

    def _connect(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._forked = False
        self._db = _open(path)
        self._file = _identity(path)

    def after_fork(self) -> None:
        """Drop the parent's connection in a forked child, which opens its own at its next query."""
        abandon(self._db)
        self._db = sqlite3.connect(":memory:")  # to be closed, where no query follows
        self._lock = Lock()
        self._forked = True

    def _reopen(self) -> None:
        if not self.is_in_place():
            raise SearchIndexError(f"{self.path.parent}: was replaced just now; try again")
        self._db = _open(self.path)
        self._db.execute("PRAGMA query_only = ON")
        self._forked = False

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        # One statement is of one moment by itself, also inside the transaction of a writer.
        with self._connection() as db:
            return db.execute(query, values).fetchall()

    @contextmanager
    def moment(self) -> Iterator[sqlite3.Connection]:
        """Let the block read several times from one moment, whatever a writer saves meanwhile.

        Raises:
            SearchIndexError: the index is closed, or its catalogue cannot be read.
        """
        with self._connection() as db:
            if db.in_transaction:  # a writer's own
                yield db
                return
            db.execute("BEGIN")
            try:
                yield db
            finally:
                if db.in_transaction:  # some errors end it
                    db.execute("ROLLBACK")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                if self._forked:
                    self._reopen()
                yield self._db
        except sqlite3.ProgrammingError as error:
            raise SearchIndexError(f"{self.path.parent}: the index is closed") from error
        except UnicodeDecodeError as error:  # the name of a column
            raise damaged(first_line(error)) from error
        except sqlite3.DatabaseError as error:
            raise unusable(self.path, error) from error

    def is_in_place(self) -> bool:
        """Return whether the path still names the file that was opened.

        Raises:
            SearchIndexError: the path names nothing: the index was deleted, or its disk is gone.
        """
        try:
            return _identity(self.path) == self._file
        except FileNotFoundError:
            raise SearchIndexError(
                f"{self.path.parent}: the index was deleted, or its disk is not mounted; index "
                "the images again, or mount it"
            ) from None
        except OSError as error:
            raise SearchIndexError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        with self._lock:
            self._forked = False
            self._db.close()


def check_is_index(folder: Path) -> None:
    """Check that a folder holds an index.

    Raises:
        SearchIndexError: it does not.
    """
    if not (folder / CATALOGUE_FILE).is_file():
        raise SearchIndexError(f"{folder}: no index here; `vireo index` makes one")


def unusable(path: Path, error: sqlite3.DatabaseError) -> SearchIndexError:
    """Return the error to raise for a catalogue that SQLite cannot read or write."""
    if "locked" in str(error):
        return IndexLocked(f"{path}: another process holds it for too long ({error}); try again")
    return SearchIndexError(f"{path}: not a usable catalogue ({error})")


def damaged(reason: str) -> SearchIndexError:
    """Return the error that tells of damage in what a catalogue notes of itself."""
    return SearchIndexError(
        f"{CATALOGUE_FILE}: what it notes of itself is damaged ({reason}); see "
        "`vireo index verify --repair`, bring a snapshot back, or index the images again into a "
        "new folder"
    )


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    # Damaged pages are noticed when they are read, and not when they lead astray.
    db.execute("PRAGMA cell_size_check = ON")
    return db


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
