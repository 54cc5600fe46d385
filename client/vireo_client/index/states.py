"""What a catalogue notes of itself: its schema and the committed state."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..errors import SearchIndexError, first_line
from ..printing import printable
from .database import damaged
from .rows import State

READABLE_VERSIONS = (1, 2)

_SAVED = (
    "SELECT (SELECT value FROM meta WHERE key = 'generation'), "
    "(SELECT value FROM meta WHERE key = 'writer_id')"
)
_PROGRAMS = (
    "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger') UNION ALL "
    "SELECT 'computed column', c.name FROM sqlite_master AS m, pragma_table_xinfo(m.name) AS c "
    "WHERE m.type = 'table' AND m.name IN "
    "('meta', 'images', 'captions', 'segments', 'removed', 'fields', 'columns') "
    "AND c.hidden > 1"
)
"""What would compute in a stranger's file."""
_COUNTS = {
    1: "SELECT (SELECT COUNT(*) FROM images), (SELECT COUNT(*) FROM captions)",
    # The tables of a large index are not counted at each save: the writer keeps the numbers.
    2: "SELECT (SELECT value FROM meta WHERE key = 'images'), "
    "(SELECT value FROM meta WHERE key = 'captions')",
}


def check_schema(db: sqlite3.Connection, path: Path) -> None:
    """Check that a catalogue is of a schema that can be read, and holds nothing that would run.

    Raises:
        SearchIndexError: it is not.
    """
    row = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    version = None if row is None else str(row[0])
    if version not in [str(readable) for readable in READABLE_VERSIONS]:
        raise SearchIndexError(
            f"{path}: schema version {str(version)[:20]}, but this vireo reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}; index the images again, or "
            "update vireo"
        )
    programs = db.execute(_PROGRAMS).fetchall()
    if programs:
        kind, name = programs[0]
        raise SearchIndexError(
            f"{path}: has the {kind} {printable(name)}, which no index has and which "
            "would run; open only indexes that vireo wrote"
        )


def find_saved(db: sqlite3.Connection) -> tuple[int, str]:
    """Return generation and writer of the state that a connection reads."""
    generation, writer_id = db.execute(_SAVED).fetchone()
    try:
        return int(generation), str(writer_id or "")
    except (ValueError, TypeError) as error:  # without a generation, it would look empty
        raise damaged(f"generation: {first_line(error)}") from error


def read_state(db: sqlite3.Connection) -> State:
    """Return the state that a connection reads."""
    try:
        (version,) = db.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
        images, captions = db.execute(_COUNTS[int(version)]).fetchone()
        return State(*find_saved(db), int(images), int(captions), int(version))
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(first_line(error)) from error
