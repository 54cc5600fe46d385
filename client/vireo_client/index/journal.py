"""The journal of a writer: additions that are durable before a save makes them part of the index.

One record a batch, appended to one file:

    length    UINT64, little-endian: bytes of the payload
    crc32     UINT32: of the payload
    payload   UINT32 length of a JSON text; the text; FP32 [N, D] and FP32 [M, D], the embeddings
              of the batch's images and of their captions

`append` hands each record to the operating system before it returns, so that a process that is
killed loses nothing that was appended. The disk is made to hold it once a second at most: a power
cut may cost what was appended since. What is cut off or damaged is dropped when the journal is
read, together with what follows it: these images are embedded again, and none gets a wrong one.
"""

from __future__ import annotations

import io
import json
import logging
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import first_line
from .changes import NewImage
from .rows import FileStamp

logger = logging.getLogger(__name__)

SYNC_SECONDS = 1.0
"""The shortest time between two syncs to the disk."""

JOURNAL_PREFIX = "journal-"

_MAGIC = b"VIREOJ01"
_HEADER = struct.Struct("<QI")
_NO_BATCH = (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error)
"""What reading a payload raises whose checksum is right, but which is another program's."""
_INT64 = range(-(2**63), 2**63)
_TEXT_LENGTH = struct.Struct("<I")


class Journal:
    """Keeps batches of additions in one file until they are saved.

    Args:
        path: the file. The first `append` makes it, or goes on behind its last whole record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: io.FileIO | None = None
        self._end = 0
        self._synced = 0.0

    def append(self, images: Sequence[NewImage]) -> None:
        """Write one batch as one record.

        Raises:
            OSError: the disk is full, or the file cannot be written; the journal is as it was.
            ValueError: embeddings are of several sizes, or there is not one for each caption.
        """
        if not images:
            return
        payload = _encode(images)
        record = _HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        file = self._open()
        file.seek(self._end)
        try:
            _write(file, record)
        except BaseException:  # the disk gets back what half a record takes
            file.truncate(self._end)
            raise
        self._end += len(record)
        now = time.monotonic()
        if now - self._synced >= SYNC_SECONDS:
            os.fsync(file.fileno())
            self._synced = now

    def replay(self) -> Iterator[list[NewImage]]:
        """Yield the batches in their order, up to the first that is cut off or damaged."""
        for _, payload in self._records():
            try:
                batch = _decode(payload)
            except _NO_BATCH as error:
                logger.warning(
                    "%s: holds what no writer wrote (%s); the rest of it is dropped, and the next "
                    "run of `vireo index` embeds these images again",
                    self.path, first_line(error),
                )  # fmt: skip
                return
            yield batch

    def clear(self) -> None:
        """Remove the file, after what it holds was saved; a later `append` makes a new one."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and leave it where it is."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> io.FileIO:
        if self._file is None:
            self._end = max((end for end, _ in self._records()), default=0)
            # Unbuffered, and opened without truncating: whole records of a killed writer stay.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0))
            self._file = io.FileIO(descriptor, "r+")
            self._file.truncate(self._end)
            if not self._end:
                _write(self._file, _MAGIC)
                self._end = len(_MAGIC)
        return self._file

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Yield where each whole record ends, and its payload."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            end = len(_MAGIC) if file.read(len(_MAGIC)) == _MAGIC else 0
            while 0 < end < size:
                header = file.read(_HEADER.size)
                if len(header) < _HEADER.size:
                    break
                length, crc = _HEADER.unpack(header)
                if length > size - end - _HEADER.size:  # cut off, or no length at all
                    break
                payload = file.read(length)
                if len(payload) < length or zlib.crc32(payload) != crc:
                    break
                end += _HEADER.size + length
                yield end, payload
        if end < size:
            logger.warning(
                "%s: %d bytes at its end are cut off or damaged and are dropped; the next run of "
                "`vireo index` embeds these images again",
                self.path, size - end,
            )  # fmt: skip


def _write(file: io.FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]  # a raw file may take a part only


def _encode(images: Sequence[NewImage]) -> bytes:
    rows = [
        [image.path, image.sha256, *image.stamp, list(image.captions), dict(image.fields)]
        for image in images
    ]
    text = json.dumps({"dim": len(images[0].embedding), "images": rows}).encode()
    embeddings = [image.embedding for image in images]
    for image in images:
        if not image.captions:
            continue
        of_captions = image.caption_embeddings
        if of_captions is None or len(of_captions) != len(image.captions):
            raise ValueError(f"{image.path}: there must be one embedding for each caption")
        embeddings.extend(of_captions)
    return _TEXT_LENGTH.pack(len(text)) + text + np.stack(embeddings).astype("<f4").tobytes()


def _decode(payload: bytes) -> list[NewImage]:
    (length,) = _TEXT_LENGTH.unpack_from(payload)
    start = _TEXT_LENGTH.size + length
    head = json.loads(payload[_TEXT_LENGTH.size : start])
    rows = head["images"]
    embeddings: npt.NDArray[np.float32] = (
        np.frombuffer(payload, "<f4", offset=start).reshape(-1, head["dim"]).astype(np.float32)
    )
    images, caption = [], len(rows)
    if len(embeddings) != caption + sum(len(captions) for *_, captions, _ in rows):
        raise ValueError(
            f"{len(embeddings)} embeddings, which is not one for each image and caption"
        )
    for embedding, (path, sha256, size, mtime_ns, digest, captions, fields) in zip(
        embeddings[:caption], rows, strict=True
    ):
        texts = [path, sha256, digest, *captions]
        if not all(isinstance(text, str) for text in texts) or not isinstance(fields, dict):
            raise ValueError("an image is described by other than texts and fields")
        if not all(type(n) is int and n in _INT64 for n in (size, mtime_ns)):
            raise ValueError(f"{path}: size or time is no number of 64 bits")
        of_captions = embeddings[caption : caption + len(captions)] if captions else None
        caption += len(captions)
        stamp = FileStamp(size, mtime_ns, digest)
        images.append(
            NewImage(path, sha256, stamp, embedding, tuple(captions), of_captions, fields)
        )
    return images
