"""Digests of the catalogue's rows, by which damage is found that SQLite does not see.

SQLite notices broken pages, but no other letter in a path. So each image's row carries a digest of
itself, of its captions and of its metadata, and `meta` has one of all that is small: itself, the
segments, and the columns. Both cost what is written, not what is there.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator

KEY = "digest"
"""The meta key of the digest of the small tables."""
_AT_ONCE = 10_000
_ROW = "id, path, sha256, bytes, mtime_ns, captions_digest, metadata"


def seal(db: sqlite3.Connection, first: int = 0, last: int | None = None) -> None:
    """Write the digests of images, in the caller's transaction.

    Args:
        db: the catalogue.
        first, last: their ids, both included; all, by default.
    """
    for id_, _, digest in of_images(db, first, last):
        db.execute("UPDATE images SET digest = ? WHERE id = ?", (digest, id_))


def of_images(
    db: sqlite3.Connection, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, int | None, int]]:
    """Yield id, stored and true digest of images, by id.

    Args:
        db: the catalogue.
        first, last: their ids, both included; all, by default.
    """
    if last is None:
        last = db.execute("SELECT MAX(id) FROM images").fetchone()[0] or 0
    for start in range(first, last + 1, _AT_ONCE):
        yield from _digests(db, "BETWEEN ? AND ?", (start, min(start + _AT_ONCE - 1, last)))


def are_whole(db: sqlite3.Connection, ids: Iterable[int]) -> bool:
    """Return whether the rows of these images are what was written."""
    some = "IN (SELECT value FROM json_each(?))"
    found = _digests(db, some, (json.dumps(sorted(ids)),))
    return all(stored == true for _, stored, true in found)


def _digests(
    db: sqlite3.Connection, which: str, values: tuple[int | str, ...]
) -> Iterator[tuple[int, int | None, int]]:
    captions: dict[int, list[tuple[int, str]]] = {}
    for id_, image_id, text in db.execute(
        f"SELECT id, image_id, text FROM captions WHERE image_id {which} ORDER BY id", values
    ):
        captions.setdefault(image_id, []).append((id_, text))
    rows = db.execute(f"SELECT * FROM fields WHERE image_id {which}", values)
    names = [column[0] for column in rows.description]
    fields = {
        # A column that was added later is null here: the digest stays.
        row[0]: [(n, v) for n, v in zip(names, row, strict=True) if v is not None]
        for row in rows
    }
    images = db.execute(
        f"SELECT digest, {_ROW} FROM images WHERE id {which} ORDER BY id", values
    ).fetchall()
    for stored, *image in images:
        yield image[0], stored, _number([image, captions.get(image[0]), fields.get(image[0])])


def of_tables(db: sqlite3.Connection) -> str:
    """Return the digest of the small tables."""
    tables = [
        db.execute("SELECT key, value FROM meta WHERE key != ? ORDER BY key", (KEY,)).fetchall(),
        db.execute("SELECT * FROM segments ORDER BY name").fetchall(),
        db.execute("SELECT * FROM columns ORDER BY name").fetchall(),
    ]
    return hashlib.sha256(repr(tables).encode(errors="backslashreplace")).hexdigest()


def tables_are_whole(db: sqlite3.Connection) -> bool:
    """Return whether the small tables are what was written."""
    rows = db.execute("SELECT value FROM meta WHERE key = ?", (KEY,)).fetchall()
    return rows == [(of_tables(db),)]


def _number(values: object) -> int:
    """Return a digest that SQLite stores as an integer."""
    text = repr(values).encode(errors="backslashreplace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big", signed=True)
