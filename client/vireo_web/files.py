"""The files of indexed images: opened by id alone, and told by their bytes what they are."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from PIL import Image
from vireo_client.errors import ImageError
from vireo_client.images import open_header
from vireo_client.index.rows import ImageRow

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


def look_at(row: ImageRow) -> ImageFile:
    """Open the file of an indexed image, and read what its first bytes say that it is.

    Raises:
        GoneError: the file is gone, cannot be read, or is no image any more.
    """
    try:
        if not stat.S_ISREG(os.stat(row.path).st_mode):  # opening a pipe would wait
            raise GoneError(f"{row.path}: is no file any more")
        with open(row.path, "rb") as file:
            status = os.fstat(file.fileno())
            header = open_header(file, row.path)
            kind = header.format or ""
    except (FileNotFoundError, NotADirectoryError):
        raise GoneError(
            f"{row.path}: its file is gone; index its folder again to take it out of the index"
        ) from None
    except OSError as error:  # Pillow's UnidentifiedImageError too
        reason = error.strerror or "it is no image any more"
        raise GoneError(f"{row.path}: cannot be read ({reason})") from None
    except ImageError as error:
        raise GoneError(f"{row.path}: cannot be shown ({error})") from None
    except Exception as error:  # what Pillow raises for a damaged header is of many kinds
        raise GoneError(f"{row.path}: is damaged ({error})") from error
    type_ = _TYPES.get(kind) or Image.MIME.get(kind) or "application/octet-stream"
    if not type_.startswith("image/"):
        type_ = "application/octet-stream"
    return ImageFile(row.path, type_, status, is_changed(row, status))


def is_changed(row: ImageRow, status: os.stat_result) -> bool:
    """Return whether a file has another size or time than when it was indexed."""
    return (status.st_size, status.st_mtime_ns) != (row.stamp.bytes, row.stamp.mtime_ns)
