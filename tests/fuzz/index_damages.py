"""Ways to damage an index: bytes of its files, rows of its catalogue, records of its journal."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.files import damaged
from vireo_client.index import digests as catalogue_digests
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.journal import JOURNAL_PREFIX


def damage_catalogue(folder: Path, chance: random.Random) -> bool:
    """Damage bytes of the catalogue, or change rows; return whether the change is sealed."""
    path = folder / CATALOGUE_FILE
    if chance.random() < 0.5:
        path.write_bytes(damaged(path.read_bytes(), chance))
        return False
    sealed = chance.random() < 0.5
    db = sqlite3.connect(path, isolation_level=None)
    try:
        for _ in range(chance.randint(1, 3)):
            _change_rows(db, chance)
        if sealed:
            catalogue_digests.seal(db)
            value = catalogue_digests.of_tables(db)
            db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (value,))
    except (sqlite3.Error, UnicodeError, OverflowError):
        sealed = False  # what was changed cannot be sealed any more, or not be made
    finally:
        db.close()
    return sealed


_VALUES: tuple[Any, ...] = (
    None, "", "x", "[]", "{}", "null", "1e999", -1, 0, 1, 2, 3, 85, 10**6, 2**31, 2**63 - 1,
    -(2**63), 1.5, float("inf"), b"\xff\xfe", b"", "../../etc/passwd", "/etc/passwd", "\x1b[31m",
    "\0", "9" * 5000, "[" * 3000, '{"a": [1, "b"]}', "flat", "hnsw", "ivfpq", "images",
    "captions", "x" * 10**6,
)  # fmt: skip


def _change_rows(db: sqlite3.Connection, chance: random.Random) -> None:
    tables = ["meta", "images", "captions", "segments", "removed", "fields", "columns"]
    table = chance.choice(tables)
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    if not names:  # it was dropped before
        return
    column = chance.choice(names)
    one = f"WHERE ({', '.join(names[:2])}) = (SELECT {', '.join(names[:2])} FROM {table} "
    one += f"LIMIT 1 OFFSET {chance.randrange(9)})"
    where = chance.choice(("", one, one, one))
    kind = chance.randrange(8)
    if kind == 0:
        db.execute(f"DELETE FROM {table} {where}")
    elif kind == 1:
        db.execute(f"DROP TABLE {chance.choice([*tables, 'words', 'word_counts'])}")
    elif kind == 2:
        db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    elif kind == 3:
        db.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} {where}")
    elif kind == 4:
        other = chance.choice(names)
        db.execute(f"UPDATE OR IGNORE {table} SET {column} = {other} {where}")
    else:
        value = chance.choice(_VALUES)
        db.execute(f"UPDATE OR IGNORE {table} SET {column} = ? {where}", (value,))


def damage_segments(folder: Path, chance: random.Random) -> bool:
    """Damage a file of a segment; sealed, where the catalogue has the damaged one's checksum."""
    path = chance.choice(sorted((folder / "segments").iterdir()))
    data = path.read_bytes()
    if chance.random() < 0.05:
        other = chance.choice(sorted((folder / "segments").iterdir()))
        changed = other.read_bytes()
    elif chance.random() < 0.5:
        # Of the same size: what a size does not show.
        changed = bytearray(data)
        for _ in range(chance.randint(1, 6)):
            start = chance.randrange(min(len(data), chance.choice((160, len(data)))))
            value = chance.choice((b"\xff" * 8, b"\0" * 8, chance.randbytes(chance.choice((1, 4)))))
            changed[start : start + len(value)] = value
        changed = bytes(changed[: len(data)])
    else:
        changed = damaged(data, chance)
    path.write_bytes(changed)
    sealed = chance.random() < 0.5
    if sealed:
        noted = (len(changed), hashlib.sha256(changed).hexdigest())
        db = sqlite3.connect(folder / CATALOGUE_FILE, isolation_level=None)
        for name, files in db.execute("SELECT name, files FROM segments").fetchall():
            by_name = json.loads(files)
            if path.name in by_name:
                by_name[path.name] = noted
                db.execute(
                    "UPDATE segments SET files = ? WHERE name = ?", (json.dumps(by_name), name)
                )
        value = catalogue_digests.of_tables(db)
        db.execute("UPDATE meta SET value = ? WHERE key = 'digest'", (value,))
        db.close()
    return sealed


def damage_journal(folder: Path, chance: random.Random) -> bool:
    """Damage the journal of a killed writer; sealed, where its records have right checksums."""
    (path,) = folder.glob(f"{JOURNAL_PREFIX}*.bin")
    data = path.read_bytes()
    sealed = chance.random() < 0.5
    if sealed:  # one record behind the magic
        payload = damaged(data[20:], chance)
        data = data[:8] + len(payload).to_bytes(8, "little")
        path.write_bytes(data + zlib.crc32(payload).to_bytes(4, "little") + payload)
    else:
        path.write_bytes(damaged(data, chance))
    return sealed


DAMAGES: dict[str, Callable[[Path, random.Random], bool]] = {
    "catalogue": damage_catalogue,
    "segments": damage_segments,
    "journal": damage_journal,
}
