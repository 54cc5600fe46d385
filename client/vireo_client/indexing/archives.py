"""Images within tars, as WebDataset shards have them.

An image has the path `ARCHIVE.tar/NAME` in the index. Only the headers are read to list a tar; the
workers then read each image from its place in the file, and nothing is unpacked. Files in a row
that share a name up to its first dot are one sample: an image, and its captions in a `.txt` (one a
line) or in a `.json`, whose other entries are metadata.
"""

from __future__ import annotations

import math
import os
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from ..captions import CaptionedImage, Skip, parse_object
from ..errors import DataError
from ..images import SUFFIXES
from ..tars import DAMAGE, MAX_TEXT_BYTES, Header, members
from .lists import described_record
from .reading import MAX_FILE_BYTES, ArchivedImage, Part, within_64_bits


class _Member(NamedTuple):
    stem: str
    suffix: str
    name: str
    part: Part


def is_archive(path: Path) -> bool:
    """Return whether a file is a tar by its name: `.tar`, or a compressed one."""
    return path.suffix.lower() in (".tar", ".tgz") or ".tar." in path.name.lower()


def list_archive(path: Path) -> tuple[list[CaptionedImage], list[Skip]]:
    """List the images of a tar, with their captions.

    Raises:
        DataError: it is no tar, is compressed, or holds no images.
    """
    records: dict[str, CaptionedImage] = {}
    skipped: list[Skip] = []
    archive = os.path.realpath(path)
    try:
        with open(path, "rb") as file:
            tar = tarfile.open(fileobj=file, mode="r:", tarinfo=Header)  # noqa: SIM115
            of_use = _members(tar, archive, skipped)
            for _, sample in groupby(of_use, key=lambda member: member.stem):
                _add_sample([*sample], file, archive, records, skipped)
    except tarfile.TarError as error:
        raise DataError(
            f"{path}: not a readable tar ({error}); a compressed one must be unpacked first"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not records:
        first = f" (the first that cannot be used: {skipped[0]})" if skipped else ""
        raise DataError(f"{path}: no images in this archive{first}; nothing was changed")
    return [*records.values()], skipped


def _members(tar: tarfile.TarFile, archive: str, skipped: list[Skip]) -> Iterator[_Member]:
    """Yield the files that a sample may consist of, and note where the tar breaks off."""
    for member in _headers(tar, archive, skipped):
        name = PurePosixPath(member.name)
        stem, _, suffix = name.name.partition(".")
        suffix = f".{suffix.lower()}"
        # Links are passed over: their targets may be anywhere.
        if not member.isreg() or not stem or not _is_of_use(suffix):
            continue
        if name.is_absolute() or ".." in name.parts:
            skipped.append(Skip(_printable(f"{archive}/{name}"), "its name leaves the archive"))
            continue
        part = Part(archive, member.offset_data, member.size, _time_ns(member))
        yield _Member(str(name.parent / stem), suffix, str(name), part)


def _headers(tar: tarfile.TarFile, archive: str, skipped: list[Skip]) -> Iterator[tarfile.TarInfo]:
    try:
        yield from members(tar)
    except DAMAGE as error:
        skipped.append(Skip(archive, f"damaged from here on ({error})"))


def _add_sample(
    sample: list[_Member],
    file: BinaryIO,
    archive: str,
    records: dict[str, CaptionedImage],
    skipped: list[Skip],
) -> None:
    images = [member for member in sample if _is_image(member.suffix)]
    texts = {member.suffix: member for member in sample if not _is_image(member.suffix)}
    captions: tuple[str, ...] = ()
    fields: dict[str, str | int | float] = {}
    try:
        if ".json" in texts:
            listed, fields = described_record(parse_object(_text(texts[".json"], file)))
            captions = tuple(listed)
        if ".txt" in texts:
            lines = _text(texts[".txt"], file).decode("utf-8-sig").splitlines()
            captions = tuple(line for line in lines if line.strip())
    except ValueError as error:  # UnicodeDecodeError is one
        skipped.append(Skip(_printable(f"{archive}/{sample[0].stem}"), f"no captions: {error}"))
    for member in images:
        path = f"{archive}/{member.name}"
        if path in records:
            skipped.append(Skip(_printable(path), "the archive holds several of this name"))
        elif member.part.bytes > MAX_FILE_BYTES:
            skipped.append(Skip(_printable(path), f"too large ({member.part.bytes:,} bytes)"))
        else:
            records[path] = ArchivedImage(Path(path), captions, None, fields, part=member.part)


def _time_ns(member: tarfile.TarInfo) -> int:
    time = float(member.mtime) * 1e9
    return within_64_bits(int(time)) if math.isfinite(time) else 0


def _text(member: _Member, file: BinaryIO) -> bytes:
    if member.part.bytes > MAX_TEXT_BYTES:
        raise ValueError(f"{member.name}: {member.part.bytes:,} bytes of text")
    file.seek(member.part.start)
    return file.read(member.part.bytes)


def _is_of_use(suffix: str) -> bool:
    return suffix in (".txt", ".json") or _is_image(suffix)


def _is_image(suffix: str) -> bool:
    return PurePosixPath(f"x{suffix}").suffix in SUFFIXES


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
