"""What an index knows about its images: the fields of their files, and the user's columns.

One wide SQLite table holds a row an image. The built-in columns are there from the beginning; a
column of the user's is added at its first value, whose type it then has for good (whole numbers
alone may become numbers later). `columns` names them, because SQLite would take `Tên` and `tên`, or
`a"b`, for other names than the user does.

All texts are stored in NFC, so that a name written by macOS equals the one that a user types.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError, SearchIndexError
from .dates import moment_at
from .file_fields import file_fields
from .values import (
    BOOLEAN,
    DATE,
    INTEGER,
    NUMBER,
    TEXT,
    TYPES,
    Value,
    check_text,
    shown,
    stored_form,
    type_of,
)

BUILT_IN: Mapping[str, str] = {
    "folder": TEXT, "name": TEXT, "bytes": INTEGER, "modified": DATE, "taken": DATE,
    "latitude": NUMBER, "longitude": NUMBER, "make": TEXT, "model": TEXT,
    "width": INTEGER, "height": INTEGER,
}  # fmt: skip
"""The columns that every index has, with their types."""

_SQL_NAME = re.compile(r"user_\d+")
MAX_COLUMNS = 500
"""How many columns of a user an index takes; a row would need ever longer to read."""

SCHEMA = (
    f"CREATE TABLE fields (image_id INTEGER PRIMARY KEY, {', '.join(BUILT_IN)})",
    """CREATE TABLE columns (
        name TEXT PRIMARY KEY,
        sql_name TEXT NOT NULL UNIQUE,
        type TEXT NOT NULL
    )""",
)
"""The statements that make the tables. The columns of `fields` have no declared types: SQLite would
convert values by them."""


class Column(NamedTuple):
    """A column of the table `fields`."""

    name: str
    """As the user wrote it, in NFC."""
    sql_name: str
    type: str
    """One of `TYPES`."""


class ImageFields(NamedTuple):
    """The fields of one image, to be written."""

    image_id: int
    where: str
    """The image's path, or the line that its fields were read from, for errors."""
    values: Mapping[str, Value]
    """Built-in fields and the user's, by name."""


def columns(db: sqlite3.Connection) -> dict[str, Column]:
    """Return the columns of an index by name, the built-in ones first.

    Raises:
        SearchIndexError: the index was written before there was metadata, or is damaged.
    """
    if not _has_tables(db):
        raise SearchIndexError(
            "this index was written before images had metadata; run `vireo index` on its images"
        )
    found = {name: Column(name, name, type_) for name, type_ in BUILT_IN.items()}
    rows = db.execute("SELECT name, sql_name, type FROM columns ORDER BY rowid").fetchall()
    for name, sql_name, type_ in rows:
        # The name becomes part of statements: another one would be run as SQL.
        texts = isinstance(name, str) and isinstance(sql_name, str)
        if not texts or not _SQL_NAME.fullmatch(sql_name) or type_ not in TYPES:
            raise SearchIndexError(
                f"the index's column {shown(name)} is damaged; see `vireo index verify --repair`"
            )
    return found | {name: Column(name, sql_name, type_) for name, sql_name, type_ in rows}


def text_columns(known: Mapping[str, Column]) -> list[Column]:
    """Return the user's own columns of texts, which are searched by words."""
    return [c for name, c in known.items() if c.type == TEXT and name not in BUILT_IN]


def infer(rows: Iterable[ImageFields]) -> dict[str, str]:
    """Infer the type of every column from all of its values.

    Whole numbers and numbers together are numbers. Texts are dates where every one of them is a
    date of at least a day (`2024-05-17`). A column without any value is left out.

    Raises:
        DataError: values of one column are of types that do not go together, or of none that an
            index takes; the message names the column and the row.
    """
    types: dict[str, str] = {}
    for row in rows:
        for name, value in row.values.items():
            if value is None:
                continue
            name = unicodedata.normalize("NFC", name)
            type_, before = type_of(name, value, row.where), types.get(name)
            if before is None or before == type_:
                types[name] = type_
            elif {before, type_} == {INTEGER, NUMBER}:
                types[name] = NUMBER
            elif {before, type_} == {DATE, TEXT} and isinstance(value, str):
                types[name] = TEXT
            else:
                raise DataError(
                    f"{row.where}: column {name!r} has the {type_} {shown(value)} here, but "
                    f"{before} values before; write all of them as one type"
                )
    return types


def declare(db: sqlite3.Connection, types: Mapping[str, str]) -> None:
    """Add columns, or check that those there are have these types.

    Who knows all rows before the first is written calls this with `infer` of them.

    Raises:
        DataError: a name cannot be a column's, or the column there is has another type.
    """
    known = columns(db)
    added = sum(name not in BUILT_IN for name in known)
    for name, type_ in types.items():
        name = unicodedata.normalize("NFC", name)
        column = known.get(name)
        if column is None:
            _check_name(name)
            if type_ not in TYPES:
                raise DataError(f"column {name!r}: no type {type_!r}; there are {', '.join(TYPES)}")
            if added == MAX_COLUMNS:
                raise DataError(f"column {name!r}: an index takes {MAX_COLUMNS} columns at most")
            added += 1
            sql_name = f"user_{added}"
            db.execute(f"ALTER TABLE fields ADD COLUMN {sql_name}")
            db.execute("INSERT INTO columns VALUES (?, ?, ?)", (name, sql_name, type_))
        elif (column.type, type_) == (INTEGER, NUMBER) and name not in BUILT_IN:
            db.execute("UPDATE columns SET type = ? WHERE name = ?", (NUMBER, name))
        elif column.type != type_ and (column.type, type_) not in _TAKEN:
            raise DataError(
                f"column {name!r} holds {column.type} values in this index, not {type_}; use "
                "another name for it"
            )


_TAKEN = {(NUMBER, INTEGER), (TEXT, DATE)}
"""Types of a column, and the inferred type of other values that it takes as well."""


def write(db: sqlite3.Connection, rows: Iterable[ImageFields]) -> None:
    """Write the fields of images, in place of those that they had.

    Columns that are new get the type of their values in these rows. Nothing is committed here.

    Raises:
        DataError: a value does not fit its column's type, or cannot be stored; the message names
            the column and the row.
    """
    for names, values in _prepare(db, rows):
        marks = ", ".join("?" * len(values))
        db.execute(f"INSERT OR REPLACE INTO fields ({names}) VALUES ({marks})", values)


def check(db: sqlite3.Connection, rows: Iterable[ImageFields]) -> None:
    """Check that `write` can write these rows, and add the columns that it would add.

    Raises:
        DataError: as `write`.
    """
    for _ in _prepare(db, rows):
        pass


def _prepare(
    db: sqlite3.Connection, rows: Iterable[ImageFields]
) -> Iterator[tuple[str, list[str | int | float]]]:
    """Add the columns that are new, and yield names and values of each row as they are stored."""
    rows = list(rows)
    known = columns(db)
    new = {name: type_ for name, type_ in infer(_without(rows, known)).items() if name not in known}
    if new:
        declare(db, new)
        known = columns(db)
    for row in rows:
        stored = _stored(db, row, known)
        names = ", ".join(["image_id", *(known[name].sql_name for name in stored)])
        yield names, [row.image_id, *stored.values()]


def _without(rows: Iterable[ImageFields], known: Mapping[str, Column]) -> Iterator[ImageFields]:
    for row in rows:
        new = {
            name: value
            for name, value in row.values.items()
            if name not in known and unicodedata.normalize("NFC", name) not in known
        }
        if new:
            yield row._replace(values=new)


def _stored(
    db: sqlite3.Connection, row: ImageFields, known: dict[str, Column]
) -> dict[str, str | int | float]:
    """Return the values of a row as SQLite stores them, by name; what is null is left out."""
    stored = {}
    for name, value in row.values.items():
        if value is None:
            continue
        if name not in known:
            name = unicodedata.normalize("NFC", name)
        column = known[name]
        type_ = type_of(name, value, row.where)
        if (column.type, type_) == (INTEGER, NUMBER) and name not in BUILT_IN:
            declare(db, {name: NUMBER})
            known[name] = column._replace(type=NUMBER)
        elif type_ != column.type and (column.type, type_) not in _TAKEN:
            raise DataError(
                f"{row.where}: column {name!r} holds {column.type} values, but here is "
                f"{shown(value)}; write it as {column.type}, or leave it out"
            )
        stored[name] = stored_form(value, known[name].type)
    return stored


def remove(db: sqlite3.Connection, image_ids: Iterable[int]) -> None:
    """Remove the fields of images. Nothing is committed here."""
    db.executemany("DELETE FROM fields WHERE image_id = ?", [(int(i),) for i in image_ids])


def read(
    db: sqlite3.Connection,
    image_ids: Iterable[int],
    known: Iterable[Column] | None = None,
) -> dict[int, dict[str, str | int | float | bool]]:
    """Return the fields of images by id, built-in ones and the user's, without those that are null.

    An image without fields has none, and so has every image of an index that was written before
    there was metadata. Dates are returned as ISO text.

    Args:
        db: the index.
        image_ids: the images.
        known: the index's columns, where they were read before.
    """
    if known is None:
        if not _has_tables(db):
            return {}
        known = columns(db).values()
    known = list(known)
    names = ", ".join(column.sql_name for column in known)
    # As one value: SQLite limits how many a statement may take.
    wanted = json.dumps([int(i) for i in image_ids])
    query = (
        f"SELECT image_id, {names} FROM fields WHERE image_id IN (SELECT value FROM json_each(?))"
    )
    found = db.execute(query, (wanted,)).fetchall()
    if any(isinstance(value, bytes) for row in found for value in row):
        raise SearchIndexError("a field of an image is damaged; see `vireo index verify --repair`")
    return {
        image_id: {
            column.name: bool(value) if column.type == BOOLEAN else value
            for column, value in zip(known, values, strict=True)
            if value is not None
        }
        for image_id, *values in found
    }


def rebuild(db: sqlite3.Connection) -> None:
    """Write the fields that the table `images` tells, for an index that had none before.

    The folder is the absolute one. What the images' EXIF tells is there after they are indexed
    again. Nothing is committed here.
    """
    rows = db.execute("SELECT id, path, bytes, mtime_ns FROM images").fetchall()
    write(db, (fields_of_row(*row) for row in rows))


def fields_of_row(image_id: int, path: str, size: int, mtime_ns: int) -> ImageFields:
    """Return the fields that an image's row of the table `images` tells."""
    return ImageFields(image_id, path, file_fields(Path(path), size, mtime_ns // 10**9))


def restamp(db: sqlite3.Connection, stamps: Mapping[int, tuple[int, int]]) -> None:
    """Set `bytes` and `modified` of images by id, from sizes and times in nanoseconds.

    Nothing is committed here.
    """
    for image_id, (size, mtime_ns) in stamps.items():
        db.execute(
            "UPDATE fields SET bytes = ?, modified = ? WHERE image_id = ?",
            (size, moment_at(mtime_ns // 10**9), image_id),
        )


def _has_tables(db: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'columns'"
    return db.execute(query).fetchone() is not None


def _check_name(name: str) -> None:
    check_text(name, "a column's name")
    if not name.strip() or len(name) > 100 or not name.isprintable() or "`" in name:
        raise DataError(
            f"column {shown(name)}: a column's name has 1 to 100 printable characters, and no "
            "backtick; give it another name"
        )
