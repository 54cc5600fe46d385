"""What is checked of an index when it is opened, beside sizes, headers and numbers of rows.

All of a small catalogue is read: SQLite's own check, the digests, the words, and that each row has
its embedding. It takes 30 ms for a MiB. In a larger one, an image's row is checked when it is
found. What hides an image from a search of a large index is found by `vireo index verify`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing

import numpy as np

from ..errors import SearchIndexError
from .catalogue import Catalogue
from .rows import State
from .segments import NO_ROWS, PARTS, REPAIR, Segment
from .states import find_saved
from .verification import check_catalogue

SMALL_CATALOGUE = 1 << 20
"""Bytes: some 1,500 images."""


def check_small(catalogue: Catalogue, state: State, parts: Mapping[str, Sequence[Segment]]) -> None:
    """Check all of a small catalogue, and that it has a row for each embedding that is present.

    Args:
        catalogue: the catalogue.
        state: the committed state that was opened. Where a writer has saved since, nothing is
            checked: its rows were not there when the index was damaged.
        parts: the segments of that state by part.

    Raises:
        SearchIndexError: something is damaged.
    """
    if catalogue.path.stat().st_size > SMALL_CATALOGUE:
        return
    with catalogue.moment() as db, closing(sqlite3.connect(":memory:")) as copy:
        if find_saved(db) != state[:2]:
            return
        # The check of the words writes, which no reader may do.
        db.backup(copy)
        problems = check_catalogue(copy).problems
        for part in () if problems else PARTS:
            rows = copy.execute(f"SELECT id FROM {part} ORDER BY id").fetchall()
            ids = [s.ids if s.present is None else s.ids[s.present] for s in parts[part]]
            present = np.sort(np.concatenate([NO_ROWS, *ids]))
            if not np.array_equal(present, np.array(rows, dtype=np.int64).ravel()):
                raise _damaged(catalogue, f"its {part} are not those of its embeddings")
    if problems:
        raise _damaged(catalogue, problems[0].what)
    catalogue.is_checked = True


def _damaged(catalogue: Catalogue, what: str) -> SearchIndexError:
    return SearchIndexError(f"{catalogue.path}: {what}; {REPAIR}")
