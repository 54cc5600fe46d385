"""Images that a tar or a parquet file carries, unpacked once to a folder beside it.

Everything downstream (hashing, decoding, indexing, contact sheets) takes a path, and training wants
images in random order, which a tar cannot give. So a carrier is unpacked to an ordinary data set:
images, then `captions.jsonl` as the last file. The price is the disk space of the images.

An image is written under another name and renamed, so a kill leaves whole files only; the next run
keeps those and goes on. When `captions.jsonl` stands, the carrier is not read again until its size
or its time changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vireo_client.captions import (
    CAPTIONS_FILE,
    CaptionSet,
    Described,
    LeftOut,
    Skip,
    collect,
    find_image,
    read_captions,
)
from vireo_client.errors import DataError
from vireo_client.progress import progress_bar

FOLDER = "vireo-pictures"
"""Folder of unpacked images, beside the carrier unless a scratch folder is given."""

_STAMP = "unpacked-from.json"
_SKIPS = "skipped.json"
_READER = 2
"""Goes up when carriers are read differently: what an older reader unpacked is unpacked anew."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A record with the encoded bytes of its image."""

    where: str
    data: bytes
    captions: list[object]
    suffix: str
    """The suffix of the file to write; decoding ignores it."""
    split: object = None
    """The split as the carrier names it, or None."""


def unpack(
    carrier: Path, items: Iterable[Embedded | Described | Skip], scratch: Path | None
) -> CaptionSet:
    """Write the images of `items` to disk, or find them there, and read them as a data set.

    Args:
        carrier: the tar or parquet file that `items` come from; they are not touched where it is
            unpacked already.
        scratch: folder for the unpacked images; by default `FOLDER` beside the carrier.

    Raises:
        DataError: nothing usable in it, or the images cannot be written.
    """
    # The path's hash keeps two carriers of one name apart in a shared scratch folder.
    path_hash = hashlib.sha256(os.fsencode(carrier.resolve())).hexdigest()[:8]
    folder = (scratch or carrier.parent / FOLDER) / f"{carrier.name}-{path_hash}"
    stat = carrier.stat()
    stamp = json.dumps(
        {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns, "reader": _READER}
    ).encode()
    try:
        fresh = _stamp_of(folder) == stamp
        if fresh and (known := _reopen(folder)) is not None:
            return known
        if not fresh:
            _clear(folder)
            _write(folder / _STAMP, stamp)
        captions = collect(
            carrier, _unpacked(items, folder, carrier.name), lambda name: find_image(folder, name)
        )
        _finish(folder, captions)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot unpack {carrier.name} here ({error.strerror}); give a scratch "
            "folder that is writable and large enough (--scratch); finished images are kept"
        ) from error
    return captions


def _unpacked(
    items: Iterable[Embedded | Described | Skip], folder: Path, label: str
) -> Iterator[Described | Skip]:
    with progress_bar() as progress:
        task = progress.add_task(f"unpacking {label}", total=None)
        for number, item in enumerate(items):
            progress.advance(task)
            if not isinstance(item, Embedded):
                yield item
                continue
            # Numbers, not the carrier's names: those may hold "..", or letters a disk refuses.
            name = f"{number // 1000:05d}/{number:08d}{item.suffix}"
            target = folder / name
            # The size too: after a power cut a file may be there and empty.
            if not target.is_file() or target.stat().st_size != len(item.data):
                _write(target, item.data)
            yield Described(item.where, name, item.captions, item.split)


def _stamp_of(folder: Path) -> bytes | None:
    path = folder / _STAMP
    return path.read_bytes() if path.is_file() else None


def _clear(folder: Path) -> None:
    """Remove the files of an earlier carrier, and nothing that we did not write."""
    if (folder / _STAMP).is_file():
        shutil.rmtree(folder)
    elif folder.exists():
        raise DataError(f"{folder}: exists and was not written by Vireo; give another --scratch")


def _write(target: Path, data: bytes) -> None:
    # The process number keeps ranks that unpack the same carrier out of each other's way.
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _finish(folder: Path, captions: CaptionSet) -> None:
    skips = {
        "skipped": [(skip.where, skip.reason) for skip in captions.skipped],
        "left_out": [(skip.where, skip.reason) for skip in captions.left_out],
    }
    _write(folder / _SKIPS, json.dumps(skips, ensure_ascii=False).encode())
    lines = (
        json.dumps(
            {"image": os.path.relpath(record.path, folder), "captions": record.captions}
            | ({"split": record.split} if record.split else {}),
            ensure_ascii=False,
        )
        for record in captions.records
    )
    _write(folder / CAPTIONS_FILE, "".join(f"{line}\n" for line in lines).encode())


def _reopen(folder: Path) -> CaptionSet | None:
    """Read a folder that was unpacked completely; None where it was not, or lacks images now."""
    if not (folder / CAPTIONS_FILE).is_file():
        return None
    try:
        captions = read_captions(folder)
    except DataError:
        return None
    if captions.skipped:
        return None
    skips = json.loads((folder / _SKIPS).read_text(encoding="utf-8"))
    return CaptionSet(
        captions.records,
        [Skip(*skip) for skip in skips["skipped"]],
        [LeftOut(*skip) for skip in skips["left_out"]],
    )
