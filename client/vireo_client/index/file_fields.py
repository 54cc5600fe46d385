"""The built-in fields of an image: what its file and its EXIF tell."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from .dates import moment_at

if TYPE_CHECKING:
    from PIL.Image import Image


def image_fields(
    path: Path,
    status: os.stat_result,
    image: Image | bytes | None = None,
    *,
    root: Path | None = None,
) -> dict[str, str | int | float]:
    """Return the built-in fields of an image.

    Args:
        path: the image's file.
        status: of the file: its size, and its time of modification, which is given in UTC.
        image: the file as Pillow opened it, or its bytes, of which the header alone is read. What
            is broken in it is left out. None leaves out all that the image itself would tell.
        root: the folder that is indexed. `folder` is relative to it for files inside it, and
            absolute for others.

    Returns:
        The fields that are known. `folder` ends in `/`, and is empty for files that lie directly in
        `root`.
    """
    fields = file_fields(path, status.st_size, status.st_mtime, root)
    if image is None:
        return fields
    from ..images import open_header
    from .exif import read_exif

    if not isinstance(image, bytes):
        return {**fields, **read_exif(image)}
    try:
        with open_header(BytesIO(image)) as opened:
            return {**fields, **read_exif(opened)}
    except Exception:  # the decoder says what is wrong with the image; here it has no fields
        return fields


def file_fields(
    path: Path, size: int, seconds: float, root: Path | None = None
) -> dict[str, str | int | float]:
    """Return the fields that a file's name, size and time of modification tell."""
    fields: dict[str, str | int | float] = {**path_fields(path, root), "bytes": size}
    modified = moment_at(seconds)
    return fields if modified is None else {**fields, "modified": modified}


def path_fields(path: Path, root: Path | None) -> dict[str, str]:
    """Return `folder`, relative to `root` where the path lies in it, and `name`."""
    parent = path.parent
    if root is not None and parent.is_relative_to(root):
        parent = parent.relative_to(root)
    folder = parent.as_posix()
    return {"folder": "" if folder == "." else folder.rstrip("/") + "/", "name": path.name}
