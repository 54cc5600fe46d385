"""The metadata of images on its way into an index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from . import metadata
from .changes import NewImage
from .file_fields import path_fields
from .metadata import Column, ImageFields

Fields = Mapping[str, str | int | float]


class ColumnCheck:
    """Checks fields before they are added, so that no save fails because of them.

    It keeps the columns of the index, and those that unsaved additions will make, in memory.

    Args:
        known: the index's columns by name.
    """

    def __init__(self, known: Mapping[str, Column]) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        for statement in metadata.SCHEMA:
            self._db.execute(statement)
        user = {c.name: c.type for c in known.values() if c.name not in metadata.BUILT_IN}
        metadata.declare(self._db, user)

    def check(self, images: Iterable[NewImage]) -> None:
        """Check the fields of images.

        Raises:
            DataError: a value does not fit its column, or cannot be stored.
        """
        rows = [ImageFields(n, i.path, i.fields) for n, i in enumerate(images) if i.fields]
        if not rows:
            return
        self._db.execute("BEGIN")
        with self._db:  # takes back new columns with the rest, if there is an error
            metadata.check(self._db, rows)

    def close(self) -> None:
        """Free the memory."""
        self._db.close()


def fields_of(image_id: int, image: NewImage) -> ImageFields:
    """Return all fields of an image: what its row tells, and over it those that it was given."""
    row = metadata.fields_of_row(image_id, image.path, image.stamp.bytes, image.stamp.mtime_ns)
    return row._replace(values={**row.values, **image.fields})


def moved_fields(fields: Mapping[str, str | int | float | bool], old: str, new: str) -> Fields:
    """Return the fields of an image under its new path.

    `folder` stays relative to the folder that it was relative to.
    """
    folder = str(fields.get("folder", ""))
    parent = Path(old).parent.as_posix().rstrip("/") + "/"
    root = None
    if not Path(folder).is_absolute() and parent.endswith(folder):
        root = Path(parent[: len(parent) - len(folder)] or ".")
    return {**fields, **path_fields(Path(new), root)}
