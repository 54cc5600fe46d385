"""The files of indexed images: opened by id alone, and told by their bytes what they are."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from vireo_client.errors import DataError, ImageError
from vireo_client.images import open_header
from vireo_client.index.rows import ImageRow
from vireo_client.indexing.archives import is_archive, list_archive
from vireo_client.indexing.reading import (
    ArchivedImage,
    Contents,
    Part,
    read_part,
    read_whole,
    within_64_bits,
)

from .problems import GoneError

_TYPES = {"MPO": "image/jpeg", "JPEG2000": "image/jp2", "HEIF": "image/heic", "AVIF": "image/avif"}
"""Types that Pillow does not know, or names in another way than browsers do."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image's file as it is now."""

    path: str
    type: str
    """Its content type, by its bytes."""
    status: os.stat_result
    changed: bool
    """Whether it is another file than the one that was indexed."""
    data: bytes | None = None
    """Its bytes, where it lies in an archive."""


def look_at(row: ImageRow) -> ImageFile:
    """Open the file of an indexed image, and read what its first bytes say that it is.

    Raises:
        GoneError: the file is gone, cannot be read, or is no image any more.
    """
    try:
        if (part := _find_part(row.path)) is not None:
            contents = read_part(part)
            type_ = _type(io.BytesIO(contents.data), row.path)
            changed = _is_other(row, len(contents.data), contents.mtime_ns)
            return ImageFile(row.path, type_, contents.status, changed, contents.data)
        if not stat.S_ISREG(os.stat(row.path).st_mode):  # opening a pipe would wait
            raise GoneError(f"{row.path}: is no file any more")
        with open(row.path, "rb") as file:
            status = os.fstat(file.fileno())
            type_ = _type(file, row.path)
        changed = _is_other(row, status.st_size, status.st_mtime_ns)
        return ImageFile(row.path, type_, status, changed)
    except OSError as error:
        raise _gone(row.path, error) from None


def read_image(row: ImageRow) -> Contents:
    """Read the file of an indexed image whole.

    Raises:
        GoneError: the file is gone, cannot be read, or is too large for an image.
    """
    try:
        part = _find_part(row.path)
        return read_whole(row.path) if part is None else read_part(part)
    except OSError as error:
        raise _gone(row.path, error) from None
    except ImageError as error:
        raise GoneError(f"{row.path}: cannot be shown ({error})") from None


def open_bytes(row: ImageRow) -> BinaryIO:
    """Open the file of an indexed image to be read.

    Raises:
        GoneError: the file is gone or cannot be read.
    """
    try:
        part = _find_part(row.path)
        return open(row.path, "rb") if part is None else io.BytesIO(read_part(part).data)
    except OSError as error:
        raise _gone(row.path, error) from None


def is_unchanged(row: ImageRow) -> bool:
    """Return whether the file of an image has the size and the time that it was indexed with.

    Raises:
        GoneError: the file is gone.
    """
    try:
        if (part := _find_part(row.path)) is not None:
            return not _is_other(row, part.bytes, part.mtime_ns)
        status = os.stat(row.path)
        return not _is_other(row, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _gone(row.path, error) from None


def _is_other(row: ImageRow, size: int, mtime_ns: int) -> bool:
    return (size, within_64_bits(mtime_ns)) != (row.stamp.bytes, row.stamp.mtime_ns)


def _gone(path: str, error: OSError) -> GoneError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return GoneError(
            f"{path}: its file is gone; index its folder again to take it out of the index"
        )
    return GoneError(f"{path}: cannot be read ({error.strerror})")


def _type(file: BinaryIO, path: str) -> str:
    try:
        kind = open_header(file, path).format or ""
    # Pillow's decoders raise many kinds of exception; all of them mean the same here.
    except Exception as error:
        reason = str(error) or "no format of an image"
        raise GoneError(f"{path}: is no image any more ({reason})") from None
    type_ = _TYPES.get(kind) or Image.MIME.get(kind) or ""
    return type_ if type_.startswith("image/") else "application/octet-stream"


def _find_part(path: str) -> Part | None:
    """Find the bytes of an image that lies in an archive: `ARCHIVE.tar/NAME`."""
    if ".t" not in path.lower():  # most paths, which are asked for by the dozen
        return None
    for parent in Path(path).parents:
        if is_archive(parent) and parent.is_file():
            status = parent.stat()
            part = _parts(str(parent), status.st_size, status.st_mtime_ns).get(path)
            if part is None:
                raise FileNotFoundError
            return part
    return None


@lru_cache(maxsize=8)
def _parts(archive: str, size: int, mtime_ns: int) -> Mapping[str, Part]:
    """List the images of an archive; size and time tell a changed one apart."""
    try:
        records, _ = list_archive(Path(archive))
    except DataError as error:
        raise GoneError(str(error)) from None
    return {str(one.path): one.part for one in records if isinstance(one, ArchivedImage)}
