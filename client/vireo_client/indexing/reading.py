"""Reads an image's file once: its bytes, and what the file system says of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition
from typing import NamedTuple

from ..captions import CaptionedImage
from ..errors import ImageError

MAX_FILE_BYTES = 512 << 20
"""The largest file that is read as an image."""


class Part(NamedTuple):
    """The bytes of an archive's file that hold one image."""

    archive: str
    start: int
    bytes: int
    mtime_ns: int
    """The image's own, as the archive has it."""


@dataclass(frozen=True, slots=True)
class ArchivedImage(CaptionedImage):
    """An image within an archive; its path is `ARCHIVE/NAME`, which no file system knows."""

    part: Part = field(kw_only=True)


class Contents(NamedTuple):
    """The bytes of an image, and what its file system or its archive says of it."""

    data: bytes
    status: os.stat_result
    mtime_ns: int


class ByteBudget:
    """Limits the bytes that threads hold at one time.

    Who asks for more than the limit gets it when nothing else is held.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._freed = Condition()

    @contextmanager
    def holding(self, count: int) -> Iterator[None]:
        """Hold `count` bytes in a block, which waits until it may."""
        self._take(count)
        try:
            yield
        finally:
            self._give(count)

    def _take(self, count: int) -> None:
        with self._freed:
            self._freed.wait_for(lambda: not self._held or self._held + count <= self._limit)
            self._held += count

    def _give(self, count: int) -> None:
        with self._freed:
            self._held -= count
            self._freed.notify_all()


def check_size(size: int) -> None:
    """Refuse a file that is too large for an image.

    Raises:
        ImageError: it is.
    """
    if size > MAX_FILE_BYTES:
        raise ImageError(
            f"too large a file for an image ({size:,} bytes); at most {MAX_FILE_BYTES:,} are read"
        )


def within_64_bits(time_ns: int) -> int:
    """Return the nearest time that an index can hold: some file systems and tars have others."""
    return min(max(time_ns, -(2**63)), 2**63 - 1)


def read_whole(path: str) -> Contents:
    """Read a file of which nothing may change meanwhile.

    Raises:
        ImageError: it is no file, is too large, or changed twice while it was read.
        OSError: it cannot be read.
    """
    for _ in range(2):
        # Looked at before it is opened: opening a pipe would wait for its writer.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ImageError("not a file")
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            check_size(before.st_size)
            data = _read(file.fileno(), before.st_size + 1)  # one more, if it has grown
            after = os.fstat(file.fileno())
        if len(data) == before.st_size and _stamp(before) == _stamp(after) == _stamp(os.stat(path)):
            return Contents(data, after, within_64_bits(after.st_mtime_ns))
    raise ImageError("changed while it was read, twice; index it again when it is complete")


def read_part(part: Part) -> Contents:
    """Read an image from an archive.

    Raises:
        ImageError: the image is too large, or the archive ends before it.
        OSError: the archive cannot be read.
    """
    check_size(part.bytes)
    with open(part.archive, "rb", buffering=0) as file:
        file.seek(part.start)
        data = _read(file.fileno(), part.bytes)
        of_archive = os.fstat(file.fileno())
    if len(data) < part.bytes:
        raise ImageError("the archive ends within it")
    seconds = part.mtime_ns // 10**9
    status = os.stat_result((*of_archive[:6], part.bytes, seconds, seconds, seconds))
    return Contents(data, status, part.mtime_ns)


def _read(descriptor: int, count: int) -> bytes:
    """Read `count` bytes, or what there is up to the end of the file."""
    pieces = []
    while count and (piece := os.read(descriptor, count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino
