"""The index's catalogue: the image or caption behind each embedding's id, in one SQLite file.

An id names the same image, or the same caption, for ever: rows are added and removed, never
changed, and the number of a removed row is not given out again. An embedding that is older or newer
than the catalogue's rows can therefore lose its row, but it can never meet another one's.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ..bundle import Bundle
from ..errors import SearchIndexError
from ..forks import abandon, renew_after_fork

CATALOGUE_FILE = "catalogue.sqlite"
SCHEMA_VERSION = 1

_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE images (
        id INTEGER PRIMARY KEY,
        path TEXT NOT NULL UNIQUE,
        sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        captions_digest TEXT NOT NULL,
        metadata TEXT NOT NULL DEFAULT '{}'
    )""",
    """CREATE TABLE captions (
        id INTEGER PRIMARY KEY,
        image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        text TEXT NOT NULL
    )""",
    "CREATE INDEX captions_by_image ON captions (image_id)",
)
# SQLite limits how many values a statement may take (32,766 by default).
_IDS_PER_QUERY = 10_000
_SAVED = (
    "SELECT (SELECT value FROM meta WHERE key = 'generation'), "
    "(SELECT value FROM meta WHERE key = 'writer_id')"
)


class FileStamp(NamedTuple):
    """Size, time and captions of an image when it was indexed: another stamp means a change."""

    bytes: int
    mtime_ns: int
    captions: str = ""
    """Digest of the image's captions; empty without any."""


class ImageRow(NamedTuple):
    """An image's row."""

    id: int
    path: str
    sha256: str
    stamp: FileStamp
    metadata: str = "{}"
    """JSON of the user's own."""


class CaptionRow(NamedTuple):
    """A caption's row."""

    id: int
    image_id: int
    text: str


class State(NamedTuple):
    """One committed state of an index."""

    generation: int
    """The number of saves so far."""
    writer_id: str
    """Eight hexadecimal digits that name the writer of this generation's vector files; empty for an
    index whose files carry none."""
    images: int
    captions: int


class Found(NamedTuple):
    """Rows that were looked up by id."""

    saved: tuple[int, str]
    """Generation and writer of the state that the rows are of."""
    rows: dict[int, tuple[str, str | None]]
    """The image's path, and the text of a caption, by id."""


class Catalogue:
    """The rows of one index, for reading; threads may share it.

    Args:
        path: the SQLite file.

    Raises:
        SearchIndexError: the file is missing, damaged, or of another schema version.
    """

    _db: sqlite3.Connection

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SearchIndexError(f"{path.parent}: no index here; `vireo index` makes one")
        self._connect(path)
        self._check_schema()
        # The file itself is opened for writing: only then can SQLite roll back the unfinished
        # transaction of a writer that was killed. Statements that write are refused.
        self._db.execute("PRAGMA query_only = ON")
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Drop the parent's connection in a forked child, which opens its own at its next query."""
        abandon(self._db)
        self._db = sqlite3.connect(":memory:")  # to be closed, where no query follows
        self._lock = Lock()
        self._forked = True

    def _reopen(self) -> None:
        if not self.is_in_place():
            raise SearchIndexError(f"{self.path.parent}: was replaced just now; try again")
        self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA query_only = ON")
        self._forked = False

    def _connect(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._forked = False
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file = _identity(path)

    def _check_schema(self) -> None:
        try:
            version = self.meta("schema_version")
            if version != str(SCHEMA_VERSION):
                raise SearchIndexError(
                    f"{self.path}: schema version {version}, but this vireo reads "
                    f"{SCHEMA_VERSION}; index the images again"
                )
        except BaseException:
            self._db.close()
            raise

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self._answers([(query, values)])[0]

    def _answers(
        self, statements: Sequence[tuple[str, Sequence[object]]]
    ) -> list[list[tuple[Any, ...]]]:
        """Return the rows of each statement, all of them of one moment."""
        try:
            with self._lock:
                if self._forked:
                    self._reopen()
                with self._snapshot(len(statements)):
                    return [self._db.execute(*statement).fetchall() for statement in statements]
        except sqlite3.ProgrammingError as error:
            raise SearchIndexError(f"{self.path.parent}: the index is closed") from error
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise SearchIndexError(
                    f"{self.path}: another process holds it for too long ({error}); try again"
                ) from error
            raise SearchIndexError(f"{self.path}: not a usable catalogue ({error})") from error

    @contextmanager
    def _snapshot(self, statements: int) -> Iterator[None]:
        # One statement is of one moment by itself, also inside the transaction of a writer.
        if statements == 1:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:  # some errors end it
                self._db.execute("ROLLBACK")

    def meta(self, key: str) -> str | None:
        """Return the value of a key, None without one."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def state(self) -> State:
        """Return the committed state, all of it of one moment."""
        ((generation, writer_id, images, captions),) = self._rows(
            "SELECT (SELECT value FROM meta WHERE key = 'generation'), "
            "(SELECT value FROM meta WHERE key = 'writer_id'), "
            "(SELECT COUNT(*) FROM images), (SELECT COUNT(*) FROM captions)"
        )
        return State(int(generation or 0), writer_id or "", int(images), int(captions))

    def saved(self) -> tuple[int, str]:
        """Return generation and writer of the committed state, without counting its rows."""
        ((generation, writer_id),) = self._rows(_SAVED)
        return int(generation or 0), writer_id or ""

    def check_bundle(self, bundle: Bundle) -> None:
        """Check that `bundle` made this index.

        Raises:
            SearchIndexError: another bundle did.
        """
        made_by = self.meta("bundle_id")
        if made_by != bundle.bundle_id:
            raise SearchIndexError(
                f"{self.path.parent}: made by bundle {made_by}, but {bundle.folder} is bundle "
                f"{bundle.bundle_id}; use that bundle, or index the images again elsewhere"
            )

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

    def images(self, ids: Iterable[int]) -> Found:
        """Return (path, None) by image id; an id without a row is left out."""
        return self._by_id("SELECT id, path, NULL FROM images WHERE id IN", ids)

    def captions(self, ids: Iterable[int]) -> Found:
        """Return (path of its image, text) by caption id; an id without a row is left out."""
        query = (
            "SELECT captions.id, path, text FROM captions "
            "JOIN images ON images.id = image_id WHERE captions.id IN"
        )
        return self._by_id(query, ids)

    def _by_id(self, query: str, ids: Iterable[int]) -> Found:
        distinct = sorted(set(ids))
        statements: list[tuple[str, Sequence[object]]] = [(_SAVED, ())]
        for start in range(0, len(distinct), _IDS_PER_QUERY):
            part = distinct[start : start + _IDS_PER_QUERY]
            statements.append((f"{query} ({','.join('?' * len(part))})", part))
        ((generation, writer_id),), *parts = self._answers(statements)
        rows = {id_: (path, text) for part in parts for id_, path, text in part}
        return Found((int(generation or 0), writer_id or ""), rows)

    def close(self) -> None:
        """Close the file; calling it twice does no harm."""
        with self._lock:
            self._forked = False
            self._db.close()


class WritableCatalogue(Catalogue):
    """The rows of one index, for its one writer; every write happens inside `transaction`.

    Args:
        path: the SQLite file.
        create: make a new file with these meta values.

    Raises:
        SearchIndexError: the file is damaged, or of another schema version.
    """

    def __init__(self, path: Path, *, create: dict[str, str] | None = None) -> None:
        self._connect(path)
        if create is not None:
            self._create(create)
        self._check_schema()
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA synchronous = FULL")

    def _create(self, meta: dict[str, str]) -> None:
        with self.transaction():
            for statement in _SCHEMA:
                self._db.execute(statement)
            self.set_meta(schema_version=str(SCHEMA_VERSION), **meta)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that the block writes, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield

    def set_meta(self, **values: str) -> None:
        """Set meta values by key."""
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def remove_meta(self, key: str) -> None:
        """Remove a meta value, where there is one."""
        self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    def stamps(self) -> dict[str, tuple[int, FileStamp]]:
        """Return id and stamp of every image, by path."""
        rows = self._rows("SELECT path, id, bytes, mtime_ns, captions_digest FROM images")
        return {path: (id_, FileStamp(*stamp)) for path, id_, *stamp in rows}

    def hashes(self) -> dict[int, str]:
        """Return the SHA-256 of every image's file, by id."""
        return dict(self._rows("SELECT id, sha256 FROM images"))

    def captions_of(self, image_id: int) -> list[tuple[int, str]]:
        """Return id and text of an image's captions, in their order."""
        query = "SELECT id, text FROM captions WHERE image_id = ? ORDER BY id"
        return [(id_, text) for id_, text in self._rows(query, (image_id,))]

    def next_ids(self) -> tuple[int, int]:
        """Return the first ids never given to an image and to a caption."""
        return int(self.meta("next_image_id") or 1), int(self.meta("next_caption_id") or 1)

    def caption_ids(self, image_ids: Iterable[int]) -> list[int]:
        """Return the ids of all captions of the given images."""
        query = "SELECT id FROM captions WHERE image_id = ?"
        return [row[0] for i in image_ids for row in self._rows(query, (i,))]

    def remove_images(self, image_ids: Iterable[int]) -> None:
        """Remove images and their captions."""
        self._db.executemany("DELETE FROM images WHERE id = ?", [(i,) for i in image_ids])

    def restamp(self, stamps: Mapping[int, FileStamp]) -> None:
        """Note the stamps of images by id."""
        self._db.executemany(
            "UPDATE images SET bytes = ?, mtime_ns = ?, captions_digest = ? WHERE id = ?",
            [(*stamp, id_) for id_, stamp in stamps.items()],
        )

    def add(self, images: Iterable[ImageRow], captions: Iterable[CaptionRow]) -> None:
        """Add images and captions."""
        self._db.executemany(
            "INSERT INTO images (id, path, sha256, bytes, mtime_ns, captions_digest, metadata) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(r.id, r.path, r.sha256, *r.stamp, r.metadata) for r in images],
        )
        self._db.executemany("INSERT INTO captions (id, image_id, text) VALUES (?, ?, ?)", captions)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
