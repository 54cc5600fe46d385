"""The index's catalogue: which picture and which sentence stands behind a vector's id (SQLite)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ..errors import SearchIndexError

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


class FileStamp(NamedTuple):
    """What tells whether a picture or its sentences changed since it was indexed."""

    bytes: int
    mtime_ns: int
    captions: str = ""
    """Digest of its sentences; empty for none."""


class ImageRow(NamedTuple):
    """A picture to be catalogued."""

    id: int
    path: str
    sha256: str
    stamp: FileStamp
    metadata: str = "{}"
    """JSON of the user's own."""


class CaptionRow(NamedTuple):
    """A sentence to be catalogued."""

    id: int
    image_id: int
    text: str


class Catalogue:
    """One SQLite file; every write happens inside `transaction`.

    Args:
        path: the file.
        create: make a new file with these meta values.

    Raises:
        SearchIndexError: the file is missing, damaged, or of another schema version.
    """

    def __init__(self, path: Path, *, create: dict[str, str] | None = None) -> None:
        self.path = path
        if create is None and not path.is_file():
            raise SearchIndexError(f"{path.parent}: no index here; `vireo index` makes one")
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA synchronous = FULL")
            if create is not None:
                with self.transaction():
                    for statement in _SCHEMA:
                        self._db.execute(statement)
                    self.set_meta(schema_version=str(SCHEMA_VERSION), **create)
            version = self.meta("schema_version")
        except sqlite3.DatabaseError as error:
            raise SearchIndexError(f"{path}: not a usable catalogue ({error})") from error
        if version != str(SCHEMA_VERSION):
            raise SearchIndexError(
                f"{path}: schema version {version}, but this vireo reads {SCHEMA_VERSION}; "
                "index the pictures again"
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits what the block wrote, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield

    def meta(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, **values: str) -> None:
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def stamps(self) -> dict[str, tuple[int, FileStamp]]:
        """Id and stamp of every picture, by path."""
        rows = self._db.execute("SELECT path, id, bytes, mtime_ns, captions_digest FROM images")
        return {path: (id_, FileStamp(*stamp)) for path, id_, *stamp in rows}

    def next_ids(self) -> tuple[int, int]:
        """The first ids never given to a picture and to a sentence."""
        return int(self.meta("next_image_id") or 1), int(self.meta("next_caption_id") or 1)

    def caption_ids(self, image_ids: Iterable[int]) -> list[int]:
        """Ids of all sentences of the given pictures."""
        query = "SELECT id FROM captions WHERE image_id = ?"
        return [row[0] for i in image_ids for row in self._db.execute(query, (i,))]

    def remove_images(self, image_ids: Iterable[int]) -> None:
        """Removes pictures and their sentences."""
        self._db.executemany("DELETE FROM images WHERE id = ?", [(i,) for i in image_ids])

    def add(self, images: Iterable[ImageRow], captions: Iterable[CaptionRow]) -> None:
        """Adds pictures and sentences."""
        self._db.executemany(
            "INSERT INTO images (id, path, sha256, bytes, mtime_ns, captions_digest, metadata) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(r.id, r.path, r.sha256, *r.stamp, r.metadata) for r in images],
        )
        self._db.executemany("INSERT INTO captions (id, image_id, text) VALUES (?, ?, ?)", captions)

    def images(self, ids: Sequence[int]) -> dict[int, str]:
        """Paths by picture id."""
        return self._by_id("SELECT id, path FROM images WHERE id IN", ids)

    def captions(self, ids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """(text, path of its picture) by sentence id."""
        query = (
            "SELECT captions.id, text, path FROM captions "
            "JOIN images ON images.id = image_id WHERE captions.id IN"
        )
        return {id_: (text, path) for id_, (text, path) in self._by_id(query, ids).items()}

    def _by_id(self, query: str, ids: Sequence[int]) -> dict:  # type: ignore[type-arg]
        marks = ",".join("?" * len(ids))
        rows = self._db.execute(f"{query} ({marks})", [int(i) for i in ids])
        return {row[0]: row[1] if len(row) == 2 else row[1:] for row in rows}

    def state(self) -> tuple[int, int, int]:
        """Generation, number of pictures and number of sentences, all of one moment."""
        query = (
            "SELECT (SELECT value FROM meta WHERE key = 'generation'), "
            "(SELECT COUNT(*) FROM images), (SELECT COUNT(*) FROM captions)"
        )
        generation, images, captions = self._db.execute(query).fetchone()
        return int(generation or 0), int(images), int(captions)

    def close(self) -> None:
        self._db.close()
