"""Verification of an index: every checksum, every row, and that both halves fit together."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..bundle import Bundle, file_sha256
from ..errors import IndexLocked, SearchIndexError, VireoError, first_line
from . import digests
from .bundle_files import BUNDLE_DIGESTS, BUNDLE_FOLDER
from .catalogue import CATALOGUE_FILE, Catalogue
from .changes import UNIT_TOLERANCE
from .database import check_is_index
from .legacy import load_legacy
from .rows import Ids, Layout
from .segments import NO_ROWS, PARTS, Segment, SegmentRow
from .states import read_state
from .storage import SEGMENTS_FOLDER, dim_of, open_segment

_BLOCK = 16_384
_ATTEMPTS = 5
_NAMED = 5
"""How many of many alike a message names."""


class Problem(NamedTuple):
    """One thing that is wrong in an index."""

    where: str
    """The file; for rows of the catalogue, `catalogue.sqlite`."""
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass
class Damage:
    """What is wrong in an index, in the terms of a repair."""

    problems: list[Problem] = field(default_factory=list)
    unreadable: bool = False
    """SQLite finds the catalogue broken."""
    tables: bool = False
    """The small tables of the catalogue are not what was written."""
    words: bool = False
    """The words are not what was written."""
    images: list[int] = field(default_factory=list)
    """Images whose rows are not what was written."""
    segments: dict[str, set[str]] = field(default_factory=dict)
    """The damaged files of each segment."""

    def add(self, where: str, what: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(where, what))


def find_damage(folder: Path) -> Damage:
    """Check everything that an index consists of; nothing is changed.

    A writer may be at work. What it changes meanwhile is looked at anew.

    Args:
        folder: the index.

    Raises:
        IndexLocked: another program holds the catalogue.
        SearchIndexError: there is no index here.
    """
    check_is_index(folder)
    for _ in range(_ATTEMPTS):
        before = _generation(folder)
        damage = Damage()
        _check(folder, damage)
        if not damage.problems or _generation(folder) == before:
            break
    return damage


def _generation(folder: Path) -> tuple[int, str] | None:
    try:
        with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
            return catalogue.saved()
    except SearchIndexError:
        return None


def _check(folder: Path, damage: Damage) -> None:
    try:
        with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
            _check_catalogue(catalogue, damage)
            if not damage.unreadable:
                _check_files(folder, catalogue, damage)
    except IndexLocked:  # that says nothing of what it holds
        raise
    except SearchIndexError as error:
        damage.unreadable = True
        damage.add(CATALOGUE_FILE, first_line(error))


def check_catalogue(db: sqlite3.Connection) -> Damage:
    """Check all of a catalogue that may be written, such as a copy in memory."""
    damage = Damage()
    _check_pages(db, damage)
    if not damage.unreadable:
        _check_rows(db, damage)
        _check_words(db, damage)
    return damage


def _check_catalogue(catalogue: Catalogue, damage: Damage) -> None:
    with catalogue.moment() as db:
        _check_pages(db, damage)
    if not damage.unreadable:
        with catalogue.moment() as db:
            _check_rows(db, damage)
        with closing(sqlite3.connect(catalogue.path, isolation_level=None)) as db:
            _check_words(db, damage)


def _check_files(folder: Path, catalogue: Catalogue, damage: Damage) -> None:
    layout = catalogue.layout()
    if layout.state.version == 1:
        _check_legacy(folder, layout, damage)
    else:
        _check_segments(folder, catalogue, layout, damage)
        _check_bundle(folder, catalogue, damage)


def _check_pages(db: sqlite3.Connection, damage: Damage) -> None:
    for (message,) in db.execute(f"PRAGMA integrity_check({_NAMED})"):
        if message != "ok":
            damage.unreadable = True
            damage.add(CATALOGUE_FILE, f"damaged ({message.splitlines()[0]})")
    for table, row, *_ in db.execute("PRAGMA foreign_key_check").fetchmany(_NAMED):
        damage.tables = True
        damage.add(CATALOGUE_FILE, f"row {row} of {table} belongs to no image")


def _check_rows(db: sqlite3.Connection, damage: Damage) -> None:
    state = read_state(db)
    if state.version == 1:
        return
    if not digests.tables_are_whole(db):
        damage.tables = True
        damage.add(CATALOGUE_FILE, "what it notes of itself, its segments or columns is damaged")
    for part in PARTS:
        ((count,),) = db.execute(f"SELECT COUNT(*) FROM {part}")
        if count != getattr(state, part):
            damage.tables = True
            damage.add(CATALOGUE_FILE, f"{count} {part}, but it notes {getattr(state, part)}")
    damage.images = [id_ for id_, digest, true in digests.of_images(db) if digest != true]
    if damage.images:
        marks = ",".join("?" * len(damage.images[:_NAMED]))
        paths = db.execute(
            f"SELECT path FROM images WHERE id IN ({marks})", damage.images[:_NAMED]
        ).fetchall()
        damage.add(
            CATALOGUE_FILE,
            f"the rows of {len(damage.images)} images are damaged: "
            f"{', '.join(str(path)[:200] for (path,) in paths)}",
        )


def _check_words(db: sqlite3.Connection, damage: Damage) -> None:
    """Have FTS5 compare its index with its texts, in a transaction that is taken back."""
    try:
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone():
            db.execute("BEGIN")
            db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
            db.execute("ROLLBACK")
            if (lost := _lost_word(db)) is not None:
                damage.words = True
                damage.add(CATALOGUE_FILE, f"searches by words do not find all that have {lost!r}")
    except sqlite3.OperationalError as error:
        # A writer is at work, or nothing may be written here.
        if "locked" not in str(error) and "readonly" not in str(error):
            damage.words = True
            damage.add(CATALOGUE_FILE, f"the words to search by are damaged ({error})")
    except sqlite3.DatabaseError as error:
        damage.words = True
        damage.add(CATALOGUE_FILE, f"the words to search by are damaged ({error})")


def _lost_word(db: sqlite3.Connection) -> str | None:
    """Return a word that is in more texts than a search for it finds; None if there is none.

    FTS5's own check passes over the keys by which a search finds the page of a word.
    """
    for word, texts in db.execute("SELECT term, doc FROM word_counts").fetchall():
        query = "SELECT count(*) FROM words WHERE words MATCH ?"
        ((found,),) = db.execute(query, ['"{}"'.format(word.replace('"', '""'))])
        if found < texts:
            return str(word)
    return None


def _check_legacy(folder: Path, layout: Layout, damage: Damage) -> None:
    try:
        parts = load_legacy(folder, layout.state, None)
    except SearchIndexError as error:
        damage.add("vectors", first_line(error))
        return
    for segments in parts.values():
        for segment in segments:
            for problem in _wrong_vectors(segment):
                damage.add(f"{segment.entry.name}.faiss", problem)


def _check_segments(folder: Path, catalogue: Catalogue, layout: Layout, damage: Damage) -> None:
    present: dict[str, list[Ids]] = {part: [] for part in PARTS}
    for entry in layout.segments:
        bad = damage.segments.setdefault(entry.name, set())
        for name, (size, sha256) in entry.files.items():
            problem = _wrong_file(folder / SEGMENTS_FOLDER / name, size, sha256)
            if problem:
                bad.add(name)
                damage.add(f"{SEGMENTS_FOLDER}/{name}", problem)
        if not bad:
            _check_opened(folder, entry, layout, damage, present)
        if not bad:
            del damage.segments[entry.name]
    if damage.segments or damage.images:
        return
    for part in PARTS:
        with catalogue.moment() as db:
            rows = db.execute(f"SELECT id FROM {part} ORDER BY id").fetchall()
        expected = np.fromiter((id_ for (id_,) in rows), np.int64, len(rows))
        found = np.sort(np.concatenate([NO_ROWS, *present[part]]))
        if not np.array_equal(found, expected):
            alone = len(np.setdiff1d(expected, found))
            strange = len(found) - len(expected) + alone
            damage.tables = True
            damage.add(
                CATALOGUE_FILE,
                f"{alone} {part} have no embedding, and {strange} embeddings have no row",
            )


def _check_opened(
    folder: Path,
    entry: SegmentRow,
    layout: Layout,
    damage: Damage,
    present: dict[str, list[Ids]],
) -> None:
    """Check a segment whose files are as they were written."""
    removed = layout.removed.get(entry.name, NO_ROWS)
    where = f"{SEGMENTS_FOLDER}/{entry.name}"
    try:
        segment = open_segment(folder, entry, dim_of(entry), NO_ROWS)
    except VireoError as error:
        damage.segments[entry.name].update(entry.files)
        damage.add(where, first_line(error))
        return
    for problem in _wrong_vectors(segment):
        damage.segments[entry.name].update(entry.files)
        damage.add(where, problem)
    if len(removed) and not 0 <= removed[0] <= removed[-1] < entry.rows:
        damage.tables = True
        damage.add(CATALOGUE_FILE, f"removes rows of {entry.name} that are not there")
        removed = removed[(removed >= 0) & (removed < entry.rows)]
    present[entry.part].append(np.delete(segment.ids, removed))


def _wrong_vectors(segment: Segment) -> Iterator[str]:
    if np.any(np.diff(segment.ids) <= 0):
        yield "its ids do not ascend"
    for start in range(0, len(segment.vectors), _BLOCK):
        with np.errstate(invalid="ignore", over="ignore"):
            lengths = np.linalg.norm(segment.vectors[start : start + _BLOCK], axis=1)
            wrong = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))
        if len(wrong):
            row, length = start + wrong[0], lengths[wrong[0]]
            yield f"row {row} is no unit vector (its length is {length:.4g})"
            return


def _wrong_file(path: Path, size: int, sha256: str) -> str | None:
    try:
        present = path.stat().st_size
        if present != size:
            return f"{present:,} bytes, the catalogue has {size:,}"
        if file_sha256(path) != sha256:
            return "damaged (its SHA-256 is another)"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _check_bundle(folder: Path, catalogue: Catalogue, damage: Damage) -> None:
    try:
        noted = json.loads(catalogue.meta(BUNDLE_DIGESTS) or "{}")
        for name, sha256 in noted.items():
            path = folder / BUNDLE_FOLDER / name
            if not path.is_file() or file_sha256(path) != sha256:
                damage.add(f"{BUNDLE_FOLDER}/{name}", "missing or damaged; `vireo index` copies it")
        if (folder / BUNDLE_FOLDER).is_dir():
            Bundle(folder / BUNDLE_FOLDER)
    except (VireoError, OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        damage.add(BUNDLE_FOLDER, first_line(error))
