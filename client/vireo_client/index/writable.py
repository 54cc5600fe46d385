"""The index's catalogue, opened for writing."""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..errors import SearchIndexError
from . import digests, metadata, words
from .catalogue import Catalogue
from .database import damaged
from .metadata import ImageFields
from .rows import NO_FIELDS, SCHEMA_VERSION, CaptionRow, FileStamp, ImageRow, State
from .segments import SegmentRow
from .states import read_state
from .words import ImageWords

_SCHEMA_1 = (
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
_SCHEMA_2 = (
    "ALTER TABLE images ADD COLUMN digest INTEGER",
    """CREATE TABLE segments (
        name TEXT PRIMARY KEY,
        part TEXT NOT NULL,
        rows INTEGER NOT NULL,
        kind TEXT NOT NULL,
        settings TEXT NOT NULL,
        files TEXT NOT NULL
    )""",
    """CREATE TABLE removed (
        segment TEXT NOT NULL,
        row INTEGER NOT NULL,
        PRIMARY KEY (segment, row)
    ) WITHOUT ROWID""",
)
SCHEMA = (*_SCHEMA_1, *_SCHEMA_2, *metadata.SCHEMA, *words.SCHEMA)
"""The statements that make all tables."""


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
            for statement in _SCHEMA_1:
                self._db.execute(statement)
            self.upgrade()
            self.set_meta(images="0", captions="0", **meta)

    def upgrade(self) -> None:
        """Add the tables of schema 2 and fill them, in the caller's transaction."""
        for statement in (*_SCHEMA_2, *metadata.SCHEMA, *words.SCHEMA):
            self._db.execute(statement)
        metadata.rebuild(self._db)
        words.rebuild(self._db)
        digests.seal(self._db)
        self.set_meta(schema_version=str(SCHEMA_VERSION))

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for statements inside `transaction`."""
        return self._db

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that the block writes, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield
            if read_state(self._db).version == SCHEMA_VERSION:
                self.set_meta(**{digests.KEY: digests.of_tables(self._db)})

    def set_meta(self, **values: str) -> None:
        """Set meta values by key."""
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def set_state(self, state: State) -> None:
        """Set the committed state, in the caller's transaction."""
        self.set_meta(
            generation=str(state.generation),
            writer_id=state.writer_id,
            images=str(state.images),
            captions=str(state.captions),
        )

    def check_state(self, expected: State) -> None:
        """Check that nobody has saved since the state that a writer knows.

        Raises:
            SearchIndexError: somebody has.
        """
        if self.state() != expected:
            raise SearchIndexError("another writer saved in between; open it anew")

    def remove_meta(self, key: str) -> None:
        """Remove a meta value, where there is one."""
        self._db.execute("DELETE FROM meta WHERE key = ?", (key,))

    def stamp(self, path: str) -> tuple[int, FileStamp] | None:
        """Return id and stamp of an image, None where the path is not indexed."""
        query = "SELECT id, bytes, mtime_ns, captions_digest FROM images WHERE path = ?"
        for id_, *stamp in self._rows(query, (path,)):
            return id_, FileStamp(*stamp)
        return None

    def ids_of(self, paths: Iterable[str]) -> dict[str, int]:
        """Return the id of each image that is indexed, by path."""
        query = "SELECT path, id FROM images WHERE path IN (SELECT value FROM json_each(?))"
        return dict(self._rows(query, (json.dumps(list(paths)),)))

    def stamps(self) -> dict[str, FileStamp]:
        """Return the stamp of every image, by path."""
        rows = self._rows("SELECT path, bytes, mtime_ns, captions_digest FROM images")
        return {path: FileStamp(*stamp) for path, *stamp in rows}

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every image's file, by path."""
        return dict(self._rows("SELECT path, sha256 FROM images"))

    def sha256(self, image_id: int) -> str:
        """Return the SHA-256 of an image's file."""
        ((sha256,),) = self._rows("SELECT sha256 FROM images WHERE id = ?", (image_id,))
        return str(sha256)

    def captions_of(self, image_id: int) -> list[tuple[int, str]]:
        """Return id and text of an image's captions, in their order."""
        query = "SELECT id, text FROM captions WHERE image_id = ? ORDER BY id"
        return [(id_, text) for id_, text in self._rows(query, (image_id,))]

    def next_ids(self) -> tuple[int, int]:
        """Return the first ids never given to an image and to a caption.

        Raises:
            SearchIndexError: they are damaged.
        """
        noted = [self.meta(key) or "1" for key in ("next_image_id", "next_caption_id")]
        if not all(re.fullmatch("[0-9]{1,18}", number) for number in noted):
            raise damaged("the next numbers of images and captions")
        return int(noted[0]), int(noted[1])

    def caption_ids(self, image_ids: Iterable[int]) -> list[int]:
        """Return the ids of all captions of the given images."""
        query = "SELECT id FROM captions WHERE image_id = ?"
        return [row[0] for i in image_ids for row in self._rows(query, (i,))]

    def remove_images(self, image_ids: Iterable[int]) -> None:
        """Remove images and their captions."""
        image_ids = list(image_ids)
        self._db.executemany("DELETE FROM images WHERE id = ?", [(i,) for i in image_ids])
        metadata.remove(self._db, image_ids)
        words.remove(self._db, image_ids)

    def restamp(self, stamps: Mapping[int, FileStamp]) -> None:
        """Note the stamps of images by id."""
        self._db.executemany(
            "UPDATE images SET bytes = ?, mtime_ns = ?, captions_digest = ? WHERE id = ?",
            [(*stamp, id_) for id_, stamp in stamps.items()],
        )
        metadata.restamp(self._db, {id_: (s.bytes, s.mtime_ns) for id_, s in stamps.items()})
        for id_ in stamps:
            digests.seal(self._db, id_, id_)

    def columns(self) -> dict[str, metadata.Column]:
        """Return the columns of the images' metadata by name; none of an index of schema 1."""
        with self._connection() as db:
            return {} if read_state(db).version == 1 else metadata.columns(db)

    def fields_of(self, image_id: int) -> Mapping[str, str | int | float | bool]:
        """Return the metadata of an image by name."""
        with self._connection() as db:
            return metadata.read(db, [image_id]).get(image_id, NO_FIELDS)

    def add(
        self,
        images: Sequence[ImageRow],
        captions: Iterable[CaptionRow],
        fields: Sequence[ImageFields],
    ) -> None:
        """Add images with ids that follow each other, their captions, and their metadata."""
        self._db.executemany(
            "INSERT INTO images (id, path, sha256, bytes, mtime_ns, captions_digest) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [(r.id, r.path, r.sha256, *r.stamp) for r in images],
        )
        texts: dict[int, list[str]] = {}
        captions = list(captions)
        for caption in captions:
            texts.setdefault(caption.image_id, []).append(caption.text)
        self._db.executemany("INSERT INTO captions (id, image_id, text) VALUES (?, ?, ?)", captions)
        metadata.write(self._db, fields)
        columns = metadata.columns(self._db)
        words.write(
            self._db,
            (
                ImageWords(
                    row.image_id, row.where, texts.get(row.image_id, ()), _user_texts(row, columns)
                )
                for row in fields
            ),
        )
        if images:
            digests.seal(self._db, images[0].id, images[-1].id)

    def add_segments(self, segments: Iterable[SegmentRow]) -> None:
        """Add segments."""
        self._db.executemany(
            "INSERT INTO segments (name, part, rows, kind, settings, files) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [(*s[:4], json.dumps(s.settings), json.dumps(s.files)) for s in segments],
        )

    def remove_segments(self, names: Sequence[str]) -> None:
        """Remove segments, and what is noted of their rows."""
        for name in names:
            self._db.execute("DELETE FROM segments WHERE name = ?", (name,))
            self._db.execute("DELETE FROM removed WHERE segment = ?", (name,))

    def bury(self, segment: str, rows: Iterable[int]) -> None:
        """Note that rows of a segment were removed."""
        self._db.executemany("INSERT INTO removed VALUES (?, ?)", [(segment, r) for r in rows])


def is_empty(path: Path) -> bool:
    """Return whether a catalogue is missing, or nothing was ever committed to it."""
    if not path.is_file():
        return True
    if path.stat().st_size:
        # To read rolls back what a writer that was killed has not committed. Damage is told of when
        # the catalogue is opened.
        with (
            closing(sqlite3.connect(path)) as db,
            suppress(sqlite3.DatabaseError, UnicodeDecodeError),
        ):
            db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    return not path.stat().st_size


def _user_texts(row: ImageFields, columns: Mapping[str, metadata.Column]) -> list[str]:
    """Return the values of an image's text columns, the built-in ones left out."""
    texts = {column.name for column in metadata.text_columns(columns)}
    return [
        str(value)
        for name, value in row.values.items()
        if value is not None and unicodedata.normalize("NFC", name) in texts
    ]
