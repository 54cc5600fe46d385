"""The files of segments: written once, mapped into memory, and swept away.

Each segment has

- `<name>.ids.npy`, INT64 `[N]`, ascending,
- `<name>.vectors.npy`, FP32 `[N, D]`, one unit vector an id, and
- `<name>.crc32.npy`, UINT32 `[N]`, a checksum of each id with its vector: a damaged byte costs one
  embedding, and not the whole segment.

NumPy's own `np.load` opens them.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle import file_sha256
from ..errors import SearchIndexError
from .exact import Embeddings, Rows
from .kinds import open_structure
from .segments import (
    ARRAYS,
    FLAT,
    PARTS,
    REPAIR,
    Checksums,
    Segment,
    SegmentRow,
    row_checksums,
    segment_name,
)

SEGMENTS_FOLDER = "segments"
CHECKED_BYTES = 32 << 20
"""Files up to this size are read and hashed when they are opened: at most 0.1 s."""
logger = logging.getLogger(__name__)


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
        files[path.name] = _write_array(path, dtype, array_shape(array, len(ids), dim), parts)
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
        raise SearchIndexError(f"{name}: is noted as too small for {entry.rows} rows; {REPAIR}")
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
            raise SearchIndexError(f"{target / name}: damaged (its SHA-256 is another); {REPAIR}")
    ids, vectors, checksums = (
        _map_array(
            target / f"{entry.name}.{array}.npy",
            dtype,
            array_shape(array, entry.rows, dim),
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
    return SearchIndexError(f"{path}: cannot be read ({error.strerror}); {REPAIR}")


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
            f"{path}: damaged ({size:,} bytes, the catalogue has {expected:,}); {REPAIR}"
        )


def sync(path: Path) -> None:
    """Write a file, or a folder's entries, down to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def array_shape(array: str, rows: int, dim: int) -> tuple[int, ...]:
    """Return the shape of one of a segment's arrays."""
    return (rows, dim) if array == "vectors" else (rows,)


def array_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the header of NumPy's file of an array."""
    header = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, described)  # type: ignore[no-untyped-call]
    return header.getvalue()


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
            raise SearchIndexError(f"{what}: would hold damaged embeddings; {REPAIR}")
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
        raise SearchIndexError(f"{path}: damaged ({error}); {REPAIR}") from error
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise SearchIndexError(
            f"{path}: damaged (an array {array.dtype} {array.shape}, the catalogue has {dtype} "
            f"{shape}); {REPAIR}"
        )
    return np.asarray(array)
