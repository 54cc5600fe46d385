"""Compares what a source holds with what is indexed: which images have to be read."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..captions import CaptionedImage, Skip
from ..index.rows import FileStamp
from .reading import ArchivedImage, Part, within_64_bits
from .report import IndexReport


class Candidate(NamedTuple):
    """An image that is new or changed."""

    path: str
    """Its path in the index, which goes through no links."""
    captions: tuple[str, ...]
    fields: Mapping[str, str | int | float]
    stamp: FileStamp
    part: Part | None = None
    """Where an archive holds it."""


def list_candidates(
    indexed: Mapping[str, FileStamp], records: Sequence[CaptionedImage], report: IndexReport
) -> tuple[list[Candidate], set[str]]:
    """List the images that are new or changed; a file with several names is listed once.

    Args:
        indexed: the stamp of every indexed image by its path.
        records: all images of a source.
        report: is told of the others.

    Returns:
        These images, and the paths of all that were found. The unchanged and the unusable are in
        the report.
    """
    candidates, found = [], set()
    for image in find_candidates(records, report):
        found.add(image.path)
        known = indexed.get(image.path)
        if known is not None and fits(image.stamp, known):
            report.unchanged += 1
        else:
            candidates.append(image)
    return candidates, found


def fits(stamp: FileStamp, known: FileStamp) -> bool:
    """Return whether nothing changed: a stamp without captions goes with any that are indexed."""
    return stamp == known or (not stamp.captions and stamp[:2] == known[:2])


def find_candidates(records: Sequence[CaptionedImage], report: IndexReport) -> Iterator[Candidate]:
    """Yield all images of a source, in its order; what is unusable goes into the report."""
    for path, record in _by_file(records).items():
        captions, fields = record.captions, record.fields
        part = record.part if isinstance(record, ArchivedImage) else None
        try:
            path.encode()
            size, mtime_ns = (part.bytes, part.mtime_ns) if part else _size_and_time(path)
        except UnicodeEncodeError:
            name = path.encode(errors="backslashreplace").decode()
            report.skipped.append(Skip(name, "its name is not UTF-8; rename it"))
            continue
        except OSError as error:
            report.skipped.append(Skip(path, str(error.strerror)))
            continue
        stamp = FileStamp(size, mtime_ns, digest_of(captions, fields))
        yield Candidate(path, captions, fields, stamp, part)


def digest_of(captions: Sequence[str], fields: Mapping[str, str | int | float]) -> str:
    """Return the digest of what a list says of an image; empty where it says nothing."""
    if not captions and not fields:
        return ""
    text = "\0".join(captions)
    if fields:
        text += "\1" + json.dumps(dict(fields), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _by_file(records: Iterable[CaptionedImage]) -> dict[str, CaptionedImage]:
    """Join the records of each file, which links may give several names."""
    folders: dict[str, str] = {}
    files: dict[str, CaptionedImage] = {}
    for record in records:
        path = os.fspath(record.path)
        if not isinstance(record, ArchivedImage):
            path = _without_links(path, folders)
        other = files.setdefault(path, record)
        if other is not record or len(set(record.captions)) < len(record.captions):
            captions = (*other.captions, *record.captions)
            files[path] = replace(
                other,
                captions=tuple(dict.fromkeys(captions)),
                fields={**other.fields, **record.fields},
            )
    return files


def _without_links(path: str, folders: dict[str, str]) -> str:
    """Return `os.path.realpath`, which looks at each folder anew, for many files in few folders."""
    folder, name = os.path.split(path)
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    path = os.path.join(folders[folder], name)
    return os.path.realpath(path) if os.path.islink(path) else path


def _size_and_time(path: str) -> tuple[int, int]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "not a file")
    return status.st_size, within_64_bits(status.st_mtime_ns)
