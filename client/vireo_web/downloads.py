"""A zip of several images, written while it is sent."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from vireo_client.index.rows import ImageRow

from .files import look_at, open_bytes
from .problems import GoneError, TooLargeError

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class ZipPlan:
    """What a zip will hold."""

    files: list[tuple[str, ImageRow, int]] = field(default_factory=list)
    """Name in the zip, image and size."""
    missing: list[str] = field(default_factory=list)
    """Why other files are not in it."""


def plan_zip(rows: Sequence[ImageRow], limit: int) -> ZipPlan:
    """Look at the files, and give each a name of its own.

    Raises:
        TooLargeError: together they have more than `limit` bytes.
        GoneError: none of them is there.
    """
    plan = ZipPlan()
    names: set[str] = set()
    for row in rows:
        try:
            file = look_at(row)
        except GoneError as error:
            plan.missing.append(str(error))
            continue
        plan.files.append((_name(row.path, names), row, file.status.st_size))
    if not plan.files:
        raise GoneError(plan.missing[0])
    total = sum(size for *_, size in plan.files)
    if total > limit:
        raise TooLargeError(f"these images have {total:,} bytes; at most {limit:,} are sent")
    return plan


def _name(path: str, names: set[str]) -> str:
    """Return the file's name, numbered where another has it; without a folder, nor a way out."""
    pure = PurePath(path)
    name, number = pure.name, 1
    while name.lower() in names:
        number += 1
        name = f"{pure.stem} ({number}){pure.suffix}"
    names.add(name.lower())
    return name


class _Pipe:
    """A file without a beginning: takes what the zip writes, until it is sent."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        """Take bytes of the zip."""
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: what was written is taken when it is sent."""

    def close(self) -> None:
        """Do nothing, likewise."""

    def taken(self) -> bytes:
        """Return what was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def stream_zip(plan: ZipPlan) -> Iterator[bytes]:
    """Yield the zip piece by piece; images are packed already, so that nothing is compressed."""
    pipe = _Pipe()
    missing = list(plan.missing)
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, row, size in plan.files:
            try:
                source = open_bytes(row)
            except GoneError as error:
                missing.append(str(error))
                continue
            with source, archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                left = size  # a file that grows is cut at what was counted
                while left and (piece := source.read(min(_PIECE, left))):
                    left -= len(piece)
                    entry.write(piece)
                    yield pipe.taken()
        if missing:
            archive.writestr("missing.txt", "\n".join(missing) + "\n")
        yield pipe.taken()
    yield pipe.taken()
