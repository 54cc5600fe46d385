"""The index's catalogue: the image or caption behind each embedding's id, in one SQLite file.

An id names the same image, or the same caption, for ever: rows are added and removed, never
changed, and the number of a removed row is not given out again. An embedding that is older or newer
than the catalogue's rows can therefore lose its row, but it can never meet another one's.
"""

from __future__ import annotations

import json
import os
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..errors import SearchIndexError
from ..forks import abandon, renew_after_fork
from . import metadata, words
from .filters import Filter, as_predicate, matching_ids
from .metadata import ImageFields
from .segments import SegmentRow
from .words import ImageWords

CATALOGUE_FILE = "catalogue.sqlite"
SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)

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
_SCHEMA_2 = (
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
Ids = npt.NDArray[np.int64]
NO_FIELDS: Mapping[str, str | int | float | bool] = MappingProxyType({})

# SQLite limits how many values a statement may take (32,766 by default).
_IDS_PER_QUERY = 10_000
_SAVED = (
    "SELECT (SELECT value FROM meta WHERE key = 'generation'), "
    "(SELECT value FROM meta WHERE key = 'writer_id')"
)
_COUNTS = {
    1: "SELECT (SELECT COUNT(*) FROM images), (SELECT COUNT(*) FROM captions)",
    # The tables of a large index are not counted at each save: the writer keeps the numbers.
    2: "SELECT (SELECT value FROM meta WHERE key = 'images'), "
    "(SELECT value FROM meta WHERE key = 'captions')",
}


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
    version: int = SCHEMA_VERSION
    """The schema's."""


class Layout(NamedTuple):
    """The segments of one committed state."""

    state: State
    segments: list[SegmentRow]
    removed: dict[str, npt.NDArray[np.int64]]
    """Rows that were removed, ascending, by segment; a segment without any is left out."""


class FoundRow(NamedTuple):
    """What stands behind an id."""

    path: str
    """The image's, or that of the image which a caption describes."""
    text: str | None
    """A caption's."""
    image_id: int
    fields: Mapping[str, str | int | float | bool]
    """The image's metadata by name."""


class Found(NamedTuple):
    """Rows that were looked up by id."""

    saved: tuple[int, str]
    """Generation and writer of the state that the rows are of."""
    rows: dict[int, FoundRow]


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
            if version not in [str(readable) for readable in READABLE_VERSIONS]:
                raise SearchIndexError(
                    f"{self.path}: schema version {version}, but this vireo reads "
                    f"{' and '.join(map(str, READABLE_VERSIONS))}; index the images again, or "
                    "update vireo"
                )
        except BaseException:
            self._db.close()
            raise

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
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                raise SearchIndexError(
                    f"{self.path}: another process holds it for too long ({error}); try again"
                ) from error
            raise SearchIndexError(f"{self.path}: not a usable catalogue ({error})") from error

    def meta(self, key: str) -> str | None:
        """Return the value of a key, None without one."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def state(self) -> State:
        """Return the committed state, all of it of one moment."""
        with self.moment() as db:
            return _state(db)

    def layout(self) -> Layout:
        """Return the committed state and its segments, all of one moment."""
        with self.moment() as db:
            state = _state(db)
            if state.version == 1:
                return Layout(state, [], {})
            entries = db.execute("SELECT name, part, rows, kind, settings, files FROM segments")
            segments = [_segment_row(*entry) for entry in entries]
            removed = {}
            for segment in segments:
                rows = db.execute(
                    "SELECT row FROM removed WHERE segment = ? ORDER BY row", (segment.name,)
                ).fetchall()
                if rows:
                    removed[segment.name] = np.fromiter((r for (r,) in rows), np.int64, len(rows))
        return Layout(state, segments, removed)

    def saved(self) -> tuple[int, str]:
        """Return generation and writer of the committed state."""
        with self._connection() as db:
            return saved(db)

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
        """Look up images by id; an id without a row is left out."""
        return self._by_id("SELECT id, path, NULL, id FROM images WHERE id IN", ids)

    def captions(self, ids: Iterable[int]) -> Found:
        """Look up captions by id; an id without a row is left out."""
        query = (
            "SELECT captions.id, path, text, image_id FROM captions "
            "JOIN images ON images.id = image_id WHERE captions.id IN"
        )
        return self._by_id(query, ids)

    def _by_id(self, query: str, ids: Iterable[int]) -> Found:
        with self.moment() as db:
            return Found(saved(db), _find(db, query, ids))

    def search_words(
        self, text: str, k: int, filter_: Filter | None
    ) -> tuple[list[tuple[int, float]], Found]:
        """Find the `k` images whose words fit a text best: ids with scores, and their rows.

        Raises:
            DataError: the text has no words, or the filter is none that the index can answer.
        """
        with self.moment() as db:
            self._check_tables(db)
            allowed = None if filter_ is None else matching_ids(db, as_predicate(filter_))
            hits = words.search(db, text, k, allowed)
            query = "SELECT id, path, NULL, id FROM images WHERE id IN"
            return hits, Found(saved(db), _find(db, query, [id_ for id_, _ in hits]))

    def filtered(self, part: str, filter_: Filter) -> tuple[tuple[int, str], Ids]:
        """Find the ids that pass a filter.

        Args:
            part: `images`, or `captions`, which pass if their images do.
            filter_: the filter.

        Returns:
            Generation and writer of the state that was read, and the ids, INT64, ascending.

        Raises:
            DataError: the filter is none that the index can answer.
        """
        with self.moment() as db:
            self._check_tables(db)
            ids = matching_ids(db, as_predicate(filter_))
            if part == "captions":
                query = (
                    "SELECT id FROM captions WHERE image_id IN (SELECT value FROM json_each(?)) "
                    "ORDER BY id"
                )
                found = db.execute(query, (json.dumps(ids.tolist()),)).fetchall()
                ids = np.fromiter((id_ for (id_,) in found), np.int64, len(found))
            return saved(db), ids

    def _check_tables(self, db: sqlite3.Connection) -> None:
        if _state(db).version == 1:
            raise SearchIndexError(
                f"{self.path.parent}: was written before images had metadata and words; save to it "
                "once, with `vireo index`"
            )

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
            self.upgrade()
            self.set_meta(images="0", captions="0", **meta)

    def upgrade(self) -> None:
        """Add the tables of schema 2 and fill them, in the caller's transaction."""
        for statement in (*_SCHEMA_2, *metadata.SCHEMA, *words.SCHEMA):
            self._db.execute(statement)
        metadata.rebuild(self._db)
        words.rebuild(self._db)
        self.set_meta(schema_version=str(SCHEMA_VERSION))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that the block writes, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:
            yield

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
        """Return the first ids never given to an image and to a caption."""
        return int(self.meta("next_image_id") or 1), int(self.meta("next_caption_id") or 1)

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

    def columns(self) -> dict[str, metadata.Column]:
        """Return the columns of the images' metadata by name; none of an index of schema 1."""
        with self._connection() as db:
            return {} if _state(db).version == 1 else metadata.columns(db)

    def fields_of(self, image_id: int) -> Mapping[str, str | int | float | bool]:
        """Return the metadata of an image by name."""
        with self._connection() as db:
            return metadata.read(db, [image_id]).get(image_id, NO_FIELDS)

    def add_fields(
        self, rows: Sequence[ImageFields], captions: Mapping[int, Sequence[str]]
    ) -> None:
        """Add the metadata of images, and the words of it and of their captions, by image id."""
        metadata.write(self._db, rows)
        texts = {
            column.name
            for column in metadata.columns(self._db).values()
            if column.type == metadata.TEXT and column.name not in metadata.BUILT_IN
        }
        words.write(
            self._db,
            (
                ImageWords(
                    row.image_id,
                    row.where,
                    captions.get(row.image_id, ()),
                    [
                        str(value)
                        for name, value in row.values.items()
                        if value is not None and unicodedata.normalize("NFC", name) in texts
                    ],
                )
                for row in rows
            ),
        )

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


def saved(db: sqlite3.Connection) -> tuple[int, str]:
    """Return generation and writer of the state that a connection reads."""
    generation, writer_id = db.execute(_SAVED).fetchone()
    return int(generation or 0), writer_id or ""


def _find(db: sqlite3.Connection, query: str, ids: Iterable[int]) -> dict[int, FoundRow]:
    distinct = sorted(set(ids))
    found: list[tuple[int, str, str | None, int]] = []
    for start in range(0, len(distinct), _IDS_PER_QUERY):
        part = distinct[start : start + _IDS_PER_QUERY]
        found += db.execute(f"{query} ({','.join('?' * len(part))})", part)
    fields = metadata.read(db, {image_id for *_, image_id in found})
    return {
        id_: FoundRow(path, text, image_id, fields.get(image_id, NO_FIELDS))
        for id_, path, text, image_id in found
    }


def _state(db: sqlite3.Connection) -> State:
    (version,) = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    images, captions = db.execute(_COUNTS[int(version)]).fetchone()
    return State(*saved(db), int(images or 0), int(captions or 0), int(version))


def _segment_row(
    name: str, part: str, rows: int, kind: str, settings: str, files: str
) -> SegmentRow:
    by_name = {file: (int(size), str(digest)) for file, (size, digest) in json.loads(files).items()}
    return SegmentRow(name, part, rows, kind, json.loads(settings), by_name)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
