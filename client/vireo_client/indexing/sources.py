"""Lists the images of a source: a folder, a list of images, an archive, or standard input."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ..captions import CAPTIONS_FILE, CaptionedImage, Skip
from ..errors import DataError
from ..folders import scan_folder
from . import archives, lists

logger = logging.getLogger(__name__)

STANDARD_INPUT = "-"
_MOST_NAME_BYTES = 1 << 16


def list_images(
    source: Path, *, allow_empty: bool = False, allow_outside: bool = False
) -> tuple[list[CaptionedImage], list[Skip]]:
    """List the images to index: all in a folder, the records of a list, or those of an archive.

    Args:
        source: a folder; a list of images in JSONL, CSV or parquet; or a tar.
        allow_empty: take a folder that is missing or has no images for an empty one.
        allow_outside: let a list name files that do not lie below its folder.

    Returns:
        The images with their captions, and what cannot be used: records, dead links, folders that
        cannot be read. Files that are no images, and images that a folder's captions file does not
        name, are counted in the log.

    Raises:
        DataError: there is no such source, it cannot be read, or it holds no images.
        MissingExtraError: the list is a parquet file and pyarrow is not installed.
    """
    captions_file = source / CAPTIONS_FILE
    if captions_file.is_file():
        records, skipped = lists.read_list(captions_file, allow_outside=allow_outside)
        _count_unnamed(source, records)
        return records, skipped
    if source.is_file():
        if archives.is_archive(source):
            return archives.list_archive(source)
        return lists.read_list(source, allow_outside=allow_outside)
    if source.is_dir():
        return _list_folder(source, allow_empty)
    if allow_empty:
        return [], []
    raise DataError(f"{source}: no such file or folder; nothing was changed")


def list_paths(
    file: BinaryIO | None = None, *, separator: bytes = b"\n"
) -> tuple[list[CaptionedImage], list[Skip]]:
    """List the images whose paths stand in a file, by default in standard input.

    Args:
        file: paths, relative to the working directory.
        separator: what ends a path: a new line, or NUL as `find -print0` writes it.

    Raises:
        DataError: there is no path in it.
    """
    records: list[CaptionedImage] = []
    skipped: list[Skip] = []
    for name in _names(file or sys.stdin.buffer, separator):
        if len(name) > _MOST_NAME_BYTES:
            skipped.append(Skip("standard input", f"{len(name):,} bytes are no path"))
        elif name:
            records.append(CaptionedImage(Path(os.fsdecode(name)), ()))
    if not records:
        raise DataError("standard input: names no image; write one path a line")
    return records, skipped


def _names(file: BinaryIO, separator: bytes) -> Iterator[bytes]:
    rest = b""
    while piece := file.read1(_MOST_NAME_BYTES) if hasattr(file, "read1") else file.read(1 << 16):
        *names, rest = (rest + piece).split(separator)
        yield from (name.removesuffix(b"\r") if separator == b"\n" else name for name in names)
        if len(rest) > 1 << 24:
            raise DataError("standard input: no list of paths; write one path a line")
    if rest:
        yield rest


def _list_folder(source: Path, allow_empty: bool) -> tuple[list[CaptionedImage], list[Skip]]:
    found = scan_folder(source)
    others = found.describe_others()
    if not found.images and not allow_empty:
        beside = [others] if others else []
        beside += [str(skip) for skip in found.skipped[:3]]
        holds = f" (it holds: {'; '.join(beside)})" if beside else ""
        raise DataError(
            f"{source}: no images in this folder{holds}; nothing was changed. If its disk is "
            "mounted and its images shall leave the index, give --yes"
        )
    if others:
        logger.warning("%s: passed over what is no image: %s", source, others)
    return [CaptionedImage(path, ()) for path in found.images], found.skipped


def _count_unnamed(folder: Path, records: Sequence[CaptionedImage]) -> None:
    """Log how many images of a folder its captions file does not name."""
    named = {os.path.realpath(record.path) for record in records}
    unnamed = [path for path in scan_folder(folder).images if os.path.realpath(path) not in named]
    if unnamed:
        logger.warning(
            "%s: %d images have no usable record in %s and are left out (the first: %s); add "
            "records for them, or index them from a folder without that file",
            folder, len(unnamed), CAPTIONS_FILE, unnamed[0],
        )  # fmt: skip
