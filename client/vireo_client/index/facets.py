"""What there is to filter an index by: columns with their frequent values, folders and dates."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass, field

from . import metadata
from .metadata import Column
from .values import TEXT

FREQUENT = 50
"""The most frequent values of a column that are told."""
MOST_FOLDERS = 200


@dataclass(frozen=True, slots=True)
class Facet:
    """One column of an index."""

    name: str
    type: str
    values: dict[str, int] | None = None
    """The most frequent texts of the column, and how many images have each; None for numbers."""


@dataclass(frozen=True, slots=True)
class Facets:
    """What the images of an index can be told apart by."""

    columns: list[Facet] = field(default_factory=list)
    cameras: dict[str, int] = field(default_factory=dict)
    """Maker and model of the cameras, with the number of their images."""
    folders: dict[str, int] = field(default_factory=dict)
    """The first parts of the images' `folder`, with the number of images below each."""
    first_date: str | None = None
    """The earliest date that a photo was taken; None if no image has such a date."""
    last_date: str | None = None


def read_facets(db: sqlite3.Connection) -> Facets:
    """Read the facets of an index; this walks through all rows of its metadata."""
    known = metadata.columns(db)
    first, last = db.execute("SELECT MIN(taken), MAX(taken) FROM fields").fetchone()
    camera = "TRIM(COALESCE(make, '') || ' ' || COALESCE(model, ''))"
    return Facets(
        [Facet(column.name, column.type, _values(db, column)) for column in known.values()],
        {name: count for name, count in _count(db, camera, FREQUENT) if name},
        _top_folders(db),
        first,
        last,
    )


def _values(db: sqlite3.Connection, column: Column) -> dict[str, int] | None:
    # Nearly each image has a name of its own; folders are told by themselves.
    if column.type != TEXT or column.name in ("name", "folder"):
        return None
    return dict(_count(db, column.sql_name, FREQUENT))


def _count(db: sqlite3.Connection, expression: str, most: int) -> list[tuple[str, int]]:
    query = (
        f"SELECT {expression} AS value, COUNT(*) AS images FROM fields WHERE value IS NOT NULL "
        "GROUP BY value ORDER BY images DESC, value LIMIT ?"
    )
    return db.execute(query, (most,)).fetchall()


def _top_folders(db: sqlite3.Connection) -> dict[str, int]:
    """Count images by the first part of a relative folder, and by the whole of an absolute one."""
    counts: Counter[str] = Counter()
    for folder, images in db.execute("SELECT folder, COUNT(*) FROM fields GROUP BY folder"):
        if folder:
            counts[folder if folder.startswith("/") else folder.partition("/")[0] + "/"] += images
    return dict(sorted(counts.most_common(MOST_FOLDERS)))
