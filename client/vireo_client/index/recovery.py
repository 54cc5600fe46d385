"""Recovery of a catalogue that SQLite finds broken: what can be read of it, in a file of its own.

A broken page costs its rows. Each table is read from both ends until SQLite stops; the indexes and
the words are made anew. Which of the rows are as they were written, their digests tell afterwards.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..errors import SearchIndexError
from . import metadata, words
from .storage import sync
from .writable import SCHEMA

_TABLES = ("meta", "images", "captions", "segments", "removed", "fields", "columns")


def recover(path: Path) -> None:
    """Replace a catalogue by one that holds what can be read of it; the caller holds the lock.

    Raises:
        SearchIndexError: it is not a SQLite file any more, or its most important rows are lost.
        OSError, sqlite3.Error: the disk does not take it.
    """
    draft = path.with_name(f"{path.name}.recovered")
    draft.unlink(missing_ok=True)
    old, new = sqlite3.connect(path), sqlite3.connect(draft)
    try:
        old.text_factory = lambda data: data.decode(errors="replace")
        for statement in SCHEMA:
            new.execute(statement)
        for name in _user_columns(old):
            new.execute(f"ALTER TABLE fields ADD COLUMN {name}")
        for table in _TABLES:
            for row in _rows(old, table):
                marks = ",".join("?" * len(row))
                new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
        _check_essentials(new, path)
        words.rebuild(new)
        new.commit()
    except BaseException:
        new.close()
        draft.unlink(missing_ok=True)
        raise
    finally:
        old.close()
        new.close()
    sync(draft)
    # A journal beside it belongs to the old file, which has just been rolled back if it had to be.
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    draft.replace(path)


def _rows(db: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a table that can be read: from its start, then from its end."""
    # Only `removed` has no row numbers.
    key, other_way = ("segment || '/' || row", "segment DESC, row DESC")
    if table != "removed":
        key, other_way = ("rowid", "rowid DESC")
    seen: set[object] = set()
    for order in (other_way.replace(" DESC", ""), other_way):
        try:
            for number, *row in db.execute(
                f"SELECT {key}, * FROM {table} NOT INDEXED ORDER BY {order}"
            ):
                if number in seen:
                    break
                seen.add(number)
                yield tuple(row)
            else:
                return  # all of it was read
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            continue  # what lies behind is read from the other end, if it can be


def _user_columns(db: sqlite3.Connection) -> list[str]:
    try:
        names = [name for _, name, *_ in db.execute("PRAGMA table_info(fields)")]
    except (sqlite3.DatabaseError, UnicodeDecodeError):
        return []
    return [name for name in names if name not in ("image_id", *metadata.BUILT_IN)]


def _check_essentials(db: sqlite3.Connection, path: Path) -> None:
    """Check that there are rows which a repair can start from."""
    meta = dict(db.execute("SELECT key, value FROM meta"))
    missing = {"schema_version", "generation", "bundle_id", "images", "captions"} - set(meta)
    ((segments,),) = db.execute("SELECT COUNT(*) FROM segments")
    ((images,),) = db.execute("SELECT COUNT(*) FROM images")
    noted = str(meta.get("images"))
    # Images whose rows are lost leave without a word, as their paths are lost too.
    if missing or not segments or (re.fullmatch("[0-9]{1,18}", noted) and 2 * images < int(noted)):
        raise SearchIndexError(
            f"{path}: too little of it can be read; bring a snapshot back, or index the images "
            "again into a new folder"
        )
