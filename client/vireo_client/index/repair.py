"""Repair of an index: what is damaged is dropped, and the rest is made whole again.

The paths of the images that are dropped are returned: `vireo index` on their folders embeds them
again. Nothing is guessed: an embedding stays only if its checksum, its row and its id agree.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import BUNDLE_FILE, read_bundle_config
from ..errors import BundleError, SearchIndexError
from . import digests, words
from .bundle_files import BUNDLE_FOLDER
from .catalogue import CATALOGUE_FILE
from .merging import merge
from .rows import Ids, State
from .segments import ARRAYS, FLAT, NO_ROWS, PARTS, Segment, SegmentRow, row_checksums, segment_name
from .storage import (
    SEGMENTS_FOLDER,
    array_header,
    array_shape,
    dim_of,
    structure_file,
    sweep_segments,
)
from .verification import Damage
from .writable import WritableCatalogue


def repair(folder: Path, damage: Damage) -> list[str]:
    """Drop what is damaged; the caller holds the writer's lock.

    Args:
        folder: the index.
        damage: what `find_damage` found.

    Returns:
        Paths of the images that were dropped, in their order. Paths that cannot be read any more
        are not among them.

    Raises:
        SearchIndexError: the catalogue cannot be read at all, or the index is of schema 1.
        OSError, sqlite3.Error: the disk does not take it.
    """
    if damage.unreadable:
        raise SearchIndexError(
            f"{folder / CATALOGUE_FILE}: SQLite cannot read it; bring a snapshot back, or index "
            "the images again into a new folder"
        )
    with closing(WritableCatalogue(folder / CATALOGUE_FILE)) as catalogue:
        state = catalogue.state()
        if state.version == 1:
            raise SearchIndexError(
                f"{folder}: its vector files are damaged; index the images again into a new folder"
            )
        return _Repair(folder, catalogue, damage, state).run()


class _Repair:
    def __init__(
        self, folder: Path, catalogue: WritableCatalogue, damage: Damage, state: State
    ) -> None:
        self._folder = folder
        self._catalogue = catalogue
        self._damage = damage
        self._state = state._replace(
            generation=state.generation + 1, writer_id=secrets.token_hex(4)
        )
        self._old = catalogue.layout()

    def run(self) -> list[str]:
        """Repair, in one transaction."""
        kept = {part: self._kept(part) for part in PARTS}
        with self._catalogue.transaction():
            db = self._catalogue.connection
            db.execute("DELETE FROM captions WHERE image_id NOT IN (SELECT id FROM images)")
            lost = self._lost_images(db, {part: _ids(segments) for part, segments in kept.items()})
            paths = [row[0] for i in lost for row in db.execute(_PATH, (i,))]
            if self._damage.words:
                for table in ("word_counts", "words"):
                    db.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in words.SCHEMA:
                    db.execute(statement)
            self._catalogue.remove_images(lost)
            if self._damage.words:
                words.rebuild(db)
            self._catalogue.remove_segments([entry.name for entry in self._old.segments])
            db.execute("DELETE FROM removed")
            for part in PARTS:
                rows = db.execute(f"SELECT id FROM {part}").fetchall()
                present = np.fromiter((i for (i,) in rows), np.int64, len(rows))
                for segment in kept[part]:
                    self._catalogue.add_segments([segment.entry])
                    gone = np.flatnonzero(~np.isin(segment.ids, present))
                    self._catalogue.bury(segment.entry.name, gone.tolist())
            self._write_state(db)
        sweep_segments(self._folder, [s.entry for segments in kept.values() for s in segments])
        return [path for path in paths if isinstance(path, str)]

    def _kept(self, part: str) -> list[Segment]:
        """Return the segments of a part with what is whole of them, damaged ones written anew."""
        damaged = self._damage.segments
        entries = [entry for entry in self._old.segments if entry.part == part]
        whole: list[Segment] = []
        broken: list[Segment] = []
        for entry in entries:
            arrays = {f"{entry.name}.{array}.npy" for array in ARRAYS}
            # What the catalogue notes of a structure may be damaged as well as its file.
            if self._damage.tables or damaged.get(entry.name, set()) - arrays:
                entry = _without_structure(self._folder, entry)
            segment = _salvage(self._folder, entry, self._old.removed.get(entry.name, NO_ROWS))
            if segment is None:
                continue
            (broken if damaged.get(entry.name, set()) & arrays else whole).append(segment)
        if broken:
            broken.sort(key=lambda segment: int(segment.ids[0]))
            name = segment_name(part, self._state.generation, self._state.writer_id)
            dim = broken[0].vectors.shape[1]
            entry_ = merge(self._folder, name, broken, dim)
            if entry_ is not None:
                again = _salvage(self._folder, entry_, NO_ROWS)
                assert again is not None  # it was written just now
                whole.append(again)
        return whole

    def _lost_images(self, db: sqlite3.Connection, kept: dict[str, Ids]) -> list[int]:
        """Return the images whose rows are damaged, or that lack an embedding of theirs."""
        lost = set(self._damage.images)
        for part, column in (("images", "id"), ("captions", "image_id")):
            rows = np.array(db.execute(f"SELECT id, {column} FROM {part}").fetchall(), np.int64)
            ids, images = rows.reshape(-1, 2).T
            lost.update(images[~np.isin(ids, kept[part])].tolist())
        return sorted(lost)

    def _write_state(self, db: sqlite3.Connection) -> None:
        counts = {part: db.execute(f"SELECT COUNT(*) FROM {part}").fetchone()[0] for part in PARTS}
        state = self._state._replace(**counts)
        self._catalogue.set_state(state)
        if self._damage.tables:
            digests.seal(db)
            self._catalogue.set_meta(**self._next_ids(db), **self._bundle_id())

    def _next_ids(self, db: sqlite3.Connection) -> dict[str, str]:
        """Return numbers that were never given to an image or a caption."""
        numbers = {}
        for part, key in (("images", "next_image_id"), ("captions", "next_caption_id")):
            noted = self._catalogue.meta(key) or "1"
            largest = db.execute(f"SELECT MAX(id) FROM {part}").fetchone()[0] or 0
            # A number that was damaged may be any; a digit too many does no harm.
            numbers[key] = str(max(largest + 1, int(noted) if _NUMBER.fullmatch(noted) else 1))
        return numbers

    def _bundle_id(self) -> dict[str, str]:
        if not (self._folder / BUNDLE_FOLDER / BUNDLE_FILE).is_file():
            return {}
        try:
            return {"bundle_id": read_bundle_config(self._folder / BUNDLE_FOLDER).bundle_id}
        except BundleError:  # it is damaged as well; the next writer's bundle is compared
            return {}


_NUMBER = re.compile("[0-9]{1,18}")
_PATH = "SELECT path FROM images WHERE id = ?"


def _ids(segments: Sequence[Segment]) -> Ids:
    return np.sort(np.concatenate([NO_ROWS, *(np.delete(s.ids, s.removed) for s in segments)]))


def _without_structure(folder: Path, entry: SegmentRow) -> SegmentRow:
    name = structure_file(folder, entry.name, entry.kind).name
    files = {file: noted for file, noted in entry.files.items() if file != name}
    return entry._replace(kind=FLAT, settings={}, files=files)


def _salvage(folder: Path, entry: SegmentRow, removed: Ids) -> Segment | None:
    """Open a segment whatever is wrong with it; rows that are not as written are removed ones.

    Returns:
        The segment without a structure; None where nothing of it is left.
    """
    try:
        dim = dim_of(entry)
    except SearchIndexError:
        return None
    ids, vectors, checksums = (
        _read(
            folder / SEGMENTS_FOLDER / f"{entry.name}.{array}.npy",
            dtype,
            array_shape(array, entry.rows, dim),
        )
        for array, dtype in ARRAYS.items()
    )
    rows = min(len(ids), len(vectors), len(checksums))
    if not rows:
        return None
    ids, vectors, checksums = ids[:rows], vectors[:rows], checksums[:rows]
    wrong = np.zeros(rows, dtype=np.bool_)
    for start in range(0, rows, 16_384):
        block = slice(start, start + 16_384)
        wrong[block] = row_checksums(ids[block], vectors[block]) != checksums[block]
    wrong[removed[(removed >= 0) & (removed < rows)]] = True
    if wrong.all():
        return None
    good = np.flatnonzero(~wrong)
    if rows < entry.rows or np.any(np.diff(ids) <= 0):
        # Cut off, or with ids that do not ascend: only the good rows are taken over.
        ids, vectors, checksums = ids[good], vectors[good], checksums[good]
        return Segment(entry, ids, vectors, checksums, None, NO_ROWS)
    return Segment(entry, ids, vectors, checksums, None, np.flatnonzero(wrong))


def _read(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Map those rows of an array that are there, whatever its header says."""
    offset = len(array_header(dtype, shape))
    row = dtype.itemsize * int(np.prod(shape[1:]))
    try:
        rows = min(shape[0], (path.stat().st_size - offset) // row)
    except FileNotFoundError:
        rows = 0
    if rows < 1:
        return np.empty((0, *shape[1:]), dtype)
    mapped = np.memmap(path, dtype, mode="r", offset=offset, shape=(rows, *shape[1:]))
    return np.asarray(mapped)
