"""WebDataset tars: files in a row that share a name up to its first dot are one sample.

A sample is an image with its captions in a `.txt` (one a line) or, where there is none, in the
`caption` or `captions` of a `.json`. The images are unpacked once, see `unpacked`.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from vireo_client.captions import Skip
from vireo_client.errors import DataError
from vireo_client.fields import captions_of, joined_keys, split_of
from vireo_client.images import SUFFIXES
from vireo_client.tars import DAMAGE, MAX_TEXT_BYTES, Header, members

from .limits import MAX_IMAGE_BYTES, check_size
from .unpacked import Embedded


class _File(NamedTuple):
    key: str
    suffix: str
    data: bytes | ValueError
    """The error of a file that is too large, in place of its content."""


def read(path: Path) -> Iterator[Embedded | Skip]:
    """Yield one item for each sample, up to where a tar is damaged.

    Raises:
        DataError: no tar at all.
    """
    try:
        tar = tarfile.open(path, tarinfo=Header)  # noqa: SIM115  # closed by the `with` below
    except DAMAGE as error:
        raise DataError(f"{path}: not a readable tar ({error})") from None
    damage: list[Skip] = []
    with tar:
        for key, files in groupby(_files(path, tar, damage), key=lambda file: file.key):
            where = f"{path}: {key}"
            try:
                yield _sample(where, _kept(files))
            except ValueError as error:
                yield Skip(where, str(error))
    yield from damage


def _files(path: Path, tar: tarfile.TarFile, damage: list[Skip]) -> Iterator[_File]:
    """Yield the files of `tar` that a sample may consist of, and notes where it breaks off."""
    last = "its start"
    try:
        for member in members(tar):
            name = PurePosixPath(_printable(member.name))
            stem, dot, suffix = name.name.partition(".")
            # Links are passed over: their targets may be anywhere.
            content = tar.extractfile(member) if member.isreg() else None
            last = str(name)
            if content is not None and stem and dot:
                suffix = suffix.lower()
                if suffix in ("txt", "json") or _is_image(suffix):
                    yield _File(str(name.parent / stem), suffix, _content(member, content, suffix))
    except DAMAGE as error:
        damage.append(Skip(str(path), f"damaged at or after {last} ({error})"))


def _content(member: tarfile.TarInfo, content: IO[bytes], suffix: str) -> bytes | ValueError:
    try:
        check_size(suffix, member.size, MAX_IMAGE_BYTES if _is_image(suffix) else MAX_TEXT_BYTES)
    except ValueError as error:
        return error
    return content.read()


def _kept(files: Iterator[_File]) -> dict[str, bytes]:
    """Return the contents by suffix: the first image, and the other files.

    Raises:
        ValueError: one of them is too large.
    """
    parts: dict[str, bytes] = {}
    has_image = False
    for file in files:
        if _is_image(file.suffix):
            if has_image:
                continue  # not kept in memory: a sample may have any number of them
            has_image = True
        if isinstance(file.data, ValueError):
            raise file.data
        parts[file.suffix] = file.data
    return parts


def _sample(where: str, parts: dict[str, bytes]) -> Embedded:
    image = next((suffix for suffix in parts if _is_image(suffix)), None)
    if image is None:
        raise ValueError("no image")
    try:
        record = _record(parts)
        if "txt" in parts:
            # Blank lines are no captions, but a text that has nothing else is an empty one.
            lines = parts["txt"].decode("utf-8-sig").splitlines()
            captions: list[object] = [line for line in lines if line.strip()] or [""]
        elif "json" in parts:
            captions = captions_of(record, list(record))
        else:
            raise ValueError("neither .txt nor .json with a caption")
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"the captions are not readable ({error})") from None
    suffix = PurePosixPath(f"x.{image}").suffix
    return Embedded(where, parts[image], captions, suffix, split_of(record))


def _record(parts: dict[str, bytes]) -> dict[str, object]:
    """Parse the .json; beside a .txt it may be of any kind, as only its split counts."""
    if "json" not in parts:
        return {}
    try:
        record = json.loads(parts["json"], object_pairs_hook=joined_keys)
    except (ValueError, RecursionError):
        if "txt" in parts:
            return {}
        raise
    if isinstance(record, dict):
        return record
    if "txt" in parts:
        return {}
    raise ValueError("the .json is not an object")


def _is_image(suffix: str) -> bool:
    return PurePosixPath(f"x.{suffix}").suffix in SUFFIXES


def _printable(name: str) -> str:
    """Replace bytes that are not UTF-8: a name only groups files and appears in messages."""
    return name.encode("utf-8", "replace").decode()
