"""Segments: the embeddings of an index, in files that are written once and never changed.

A save writes one segment for each part (images, captions) that it adds to. Its name is made of the
part, the generation of the save and the id of the writer: the catalogue commits the name, so that
the files of a writer that failed or died are never taken for those of another. Each segment has

- `<name>.ids.npy`, INT64 `[N]`, ascending,
- `<name>.vectors.npy`, FP32 `[N, D]`, one unit vector an id, and
- `<name>.crc32.npy`, UINT32 `[N]`, a checksum of each id with its vector: a damaged byte costs one
  embedding, and not the whole segment.

NumPy's own `np.load` opens them.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import file_sha256
from ..errors import SearchIndexError
from .exact import Embeddings, Mask, Rows, nearest_rows
from .kinds import SearchSettings, open_structure

SEGMENTS_FOLDER = "segments"
PARTS = ("images", "captions")
FLAT = "flat"
ARRAYS: dict[str, np.dtype[Any]] = {
    "ids": np.dtype(np.int64),
    "vectors": np.dtype(np.float32),
    "crc32": np.dtype(np.uint32),
}
"""A segment's arrays and their types."""
Checksums = npt.NDArray[np.uint32]
NO_ROWS: Rows = np.empty(0, dtype=np.int64)
CHECKED_BYTES = 32 << 20
"""Files up to this size are read and hashed when they are opened: at most 0.1 s."""
logger = logging.getLogger(__name__)

_NAME = re.compile(r"(images|captions)-\d+-[0-9a-f]+")
_STRUCTURE = re.compile(_NAME.pattern + r"\.[a-z0-9]+\.faiss")
_MOST_ROWS = 1 << 40
_AGAIN = "`vireo index verify --repair` drops what is damaged and lists what to index again"


class SegmentRow(NamedTuple):
    """A segment's entry in the catalogue."""

    name: str
    part: str
    """`images` or `captions`."""
    rows: int
    kind: str
    """Of its search structure: `flat` has none."""
    settings: dict[str, Any]
    """The kind's parameters and its measured recall."""
    files: dict[str, tuple[int, str]]
    """Bytes and SHA-256 by file name."""


def segment_row(
    name: str, part: str, rows: int, kind: str, settings: str, files: str
) -> SegmentRow:
    """Return an entry from its columns in the catalogue.

    Raises:
        ValueError, TypeError: it is none that an index writes, or names a file elsewhere.
    """
    noted, read = json.loads(files), json.loads(settings)
    if not (isinstance(noted, dict) and isinstance(read, dict) and _NAME.fullmatch(name)):
        raise ValueError(f"segment {name!r} is described by other than a name and two objects")
    by_name = {file: (int(size), str(digest)) for file, (size, digest) in noted.items()}
    needed = {f"{name}.{array}.npy" for array in ARRAYS}
    others = by_name.keys() - needed
    if not needed <= by_name.keys() or not all(map(_STRUCTURE.fullmatch, others)):
        raise ValueError(f"segment {name} has other files than a segment has")
    if part not in PARTS or type(rows) is not int or not 0 < rows < _MOST_ROWS:
        raise ValueError(f"segment {name} has {rows!r} rows of {part!r}")
    return SegmentRow(name, part, rows, str(kind), read, by_name)


@dataclass(frozen=True)
class Segment:
    """One segment, mapped into memory.

    Attributes:
        entry: its entry in the catalogue.
        ids: INT64 `[N]`, ascending.
        vectors: FP32 `[N, D]`.
        checksums: UINT32 `[N]`, the CRC-32 of each row; None in an index of schema 1.
        structure: the search structure, None for `flat`.
        removed: rows that were removed since the segment was written, INT64.
        whole: whether the checksums of its files were compared when they were opened.
    """

    entry: SegmentRow
    ids: Rows
    vectors: Embeddings
    checksums: Checksums | None
    structure: Any
    removed: Rows
    whole: bool = False

    @cached_property
    def present(self) -> Mask | None:
        """Rows that were not removed, `[N]`; None where all are present."""
        if not len(self.removed):
            return None
        present = np.ones(len(self.ids), dtype=np.bool_)
        present[self.removed] = False
        return present

    def search(
        self,
        queries: Embeddings,
        k: int,
        allowed: Mask | None = None,
        search: SearchSettings | None = None,
    ) -> tuple[Embeddings, Rows]:
        """Find the `k` nearest embeddings of each query among those that are present.

        Args:
            queries: unit vectors FP32 `[M, D]`, contiguous.
            k: how many, at most.
            allowed: rows that may be found, `[N]`; all, if None.
            search: how to use the search structure.

        Returns:
            Scores FP32 and ids INT64, both `[M, k]` or narrower; -1 where nothing was found.
        """
        search = search or SearchSettings()
        if self.present is not None:
            allowed = self.present if allowed is None else allowed & self.present
        k = min(k, len(self.ids))
        if self.structure is None or search.exact:
            scores, rows = nearest_rows(self.vectors, queries, k, allowed)
        else:
            scores, rows = self.structure.search(queries, k, allowed=allowed, settings=search)
        # Row -1, where nothing was found, takes the last id and gets its -1 back.
        ids = self.ids[rows]
        ids[rows < 0] = -1
        return scores, ids

    def check(self, ids: Rows) -> None:
        """Check that those of `ids` that lie in this segment have the embeddings they were given.

        Raises:
            SearchIndexError: one is damaged.
        """
        if self.whole or self.checksums is None:
            return
        rows = self.rows_of(ids)
        found = row_checksums(self.ids[rows], self.vectors[rows])
        if not np.array_equal(found, self.checksums[rows]):
            raise SearchIndexError(f"segment {self.entry.name}: an embedding is damaged; {_AGAIN}")

    def rows_of(self, ids: Rows) -> Rows:
        """Return the row of each id that lies in this segment; other ids are left out."""
        rows: Rows = np.searchsorted(self.ids, ids)
        rows[rows == len(self.ids)] = 0
        found: Rows = rows[self.ids[rows] == ids]
        return found


def embeddings_of(segments: Iterable[Segment], ids: Rows) -> dict[int, Embeddings]:
    """Return the embeddings, FP32 `[D]` each, of those of `ids` that are present, by id."""
    found: dict[int, Embeddings] = {}
    for segment in segments:
        rows = segment.rows_of(ids)
        if segment.present is not None:
            rows = rows[segment.present[rows]]
        found.update(zip(segment.ids[rows].tolist(), segment.vectors[rows], strict=True))
    return found


def segment_name(part: str, generation: int, writer_id: str) -> str:
    """Return the name of the segment that a save writes for a part."""
    return f"{part}-{generation}-{writer_id}"


def write_segment(
    folder: Path,
    name: str,
    part: str,
    ids: Rows,
    blocks: Iterable[Embeddings],
    dim: int,
    expected: Checksums | None = None,
) -> SegmentRow:
    """Write the files of a new flat segment, down to the disk.

    Args:
        folder: the index.
        name: the segment's name.
        part: `images` or `captions`.
        ids: INT64 `[N]`, ascending.
        blocks: the vectors in their order, FP32 `[n, dim]` each, N rows together.
        dim: the embedding size.
        expected: checksums of the rows, UINT32 `[N]`, where they were stored before.

    Raises:
        SearchIndexError: a row is not what it was when it was stored.
        OSError: the disk does not take them.
    """
    target = folder / SEGMENTS_FOLDER
    target.mkdir(exist_ok=True)
    files = {}
    checksums = np.empty(len(ids), dtype=np.uint32)
    checked = _check_rows(ids, blocks, checksums, expected, f"{folder}: segment {name}")
    # The checksums are there once the vectors are written.
    for (array, dtype), parts in zip(ARRAYS.items(), ((ids,), checked, (checksums,)), strict=True):
        path = target / f"{name}.{array}.npy"
        shape = (len(ids), dim) if array == "vectors" else (len(ids),)
        files[path.name] = _write_array(path, dtype, shape, parts)
    sync(target)
    return SegmentRow(name, part, len(ids), FLAT, {}, files)


def dim_of(entry: SegmentRow) -> int:
    """Return the embedding size that the noted size of a segment's vectors tells.

    Raises:
        SearchIndexError: there is none of which it would be the size.
    """
    name = f"{entry.name}.vectors.npy"
    # All headers of small shapes are of one length.
    header = len(array_header(ARRAYS["vectors"], (entry.rows, 1)))
    dim = (entry.files[name][0] - header) // (4 * entry.rows)
    if dim < 1:
        raise SearchIndexError(f"{name}: is noted as too small for {entry.rows} rows; {_AGAIN}")
    return dim


def open_segment(
    folder: Path,
    entry: SegmentRow,
    dim: int,
    removed: Rows,
    *,
    structures: bool = True,
) -> Segment:
    """Map a segment's files into memory; sizes and headers are checked.

    Of files up to `CHECKED_BYTES`, checksums are checked too. In a larger one, an embedding is
    checked when it is found.

    Args:
        folder: the index.
        entry: its entry in the catalogue.
        dim: the embedding size.
        removed: rows that were removed, INT64.
        structures: open the search structure, too.

    Raises:
        SearchIndexError: a file is missing, or is not what the catalogue says.
    """
    target = folder / SEGMENTS_FOLDER
    whole = True
    for name, (size, sha256) in entry.files.items():
        check_size(target / name, size)
        if size > CHECKED_BYTES:
            whole = False
        elif _sha256(target / name) != sha256:
            raise SearchIndexError(f"{target / name}: damaged (its SHA-256 is another); {_AGAIN}")
    ids, vectors, checksums = (
        _map_array(
            target / f"{entry.name}.{array}.npy",
            dtype,
            (entry.rows, dim) if array == "vectors" else (entry.rows,),
        )
        for array, dtype in ARRAYS.items()
    )
    structure = None
    if structures and entry.kind != FLAT:
        path = structure_file(folder, entry.name, entry.kind)
        structure = open_structure(entry.kind, path, vectors, entry.settings)
    return Segment(entry, ids, vectors, checksums, structure, removed, whole)


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:  # a writer may have swept the file away just now
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> SearchIndexError:
    return SearchIndexError(f"{path}: cannot be read ({error.strerror}); {_AGAIN}")


def structure_file(folder: Path, name: str, kind: str) -> Path:
    """Return the path of a segment's search structure."""
    return folder / SEGMENTS_FOLDER / f"{name}.{kind}.faiss"


def sweep_segments(folder: Path, entries: Iterable[SegmentRow]) -> None:
    """Remove the files of all segments but these."""
    needed = {name for entry in entries for name in entry.files}
    target = folder / SEGMENTS_FOLDER
    if target.is_dir():
        for path in target.iterdir():
            if path.name not in needed:
                remove_unless_open(path)


def drop_segments(folder: Path, generation: int, writer_id: str) -> None:
    """Remove the files of a save that failed, which may have filled the disk."""
    for part in PARTS:
        name = segment_name(part, generation, writer_id)
        for path in (folder / SEGMENTS_FOLDER).glob(f"{name}.*"):
            remove_unless_open(path)


def remove_unless_open(path: Path) -> None:
    """Remove a file; one that a reader has open on Windows stays until the next sweep."""
    try:
        path.unlink()
    except PermissionError as error:
        logger.info("%s: is left for the next writer to remove (%s)", path, error)


def check_size(path: Path, expected: int) -> None:
    """Check that a file is there and has the size that the catalogue says.

    Raises:
        SearchIndexError: it is not.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from None
    if size != expected:
        raise SearchIndexError(
            f"{path}: damaged ({size:,} bytes, the catalogue has {expected:,}); {_AGAIN}"
        )


def sync(path: Path) -> None:
    """Write a file, or a folder's entries, down to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def array_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header of NumPy's file of an array."""
    header = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)  # type: ignore[no-untyped-call]
    return header.getvalue()


def row_checksums(ids: Rows, vectors: Embeddings) -> Checksums:
    """Return the CRC-32 of each id with its vector, UINT32 `[n]`."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32).view(np.uint8)
    numbers = np.ascontiguousarray(ids, dtype=np.int64).view(np.uint8).reshape(-1, 8)
    pairs = zip(rows, numbers, strict=True)
    return np.fromiter(
        (zlib.crc32(row, zlib.crc32(number)) for row, number in pairs), np.uint32, len(rows)
    )


def _check_rows(
    ids: Rows,
    blocks: Iterable[Embeddings],
    checksums: Checksums,
    expected: Checksums | None,
    what: str,
) -> Iterator[Embeddings]:
    """Pass blocks of vectors on, and fill in their checksums."""
    start = 0
    for block in blocks:
        end = start + len(block)
        checksums[start:end] = row_checksums(ids[start:end], block)
        if expected is not None and not np.array_equal(checksums[start:end], expected[start:end]):
            raise SearchIndexError(f"{what}: would hold damaged embeddings; {_AGAIN}")
        yield block
        start = end


def _write_array(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], blocks: Iterable[Any]
) -> tuple[int, str]:
    """Write an array block by block; return the file's size and SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        header = array_header(dtype, shape)
        digest.update(header)
        file.write(header)
        for block in blocks:
            data = np.ascontiguousarray(block, dtype=dtype).reshape(-1).view(np.uint8).data
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def _map_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    try:
        array = np.load(path, mmap_mode="r")
    except Exception as error:  # NumPy raises what its parser meets: a dozen classes
        raise SearchIndexError(f"{path}: damaged ({error}); {_AGAIN}") from error
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise SearchIndexError(
            f"{path}: damaged (an array {array.dtype} {array.shape}, the catalogue has {dtype} "
            f"{shape}); {_AGAIN}"
        )
    return np.asarray(array)
