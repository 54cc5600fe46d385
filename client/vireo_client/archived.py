"""Reads one file from within a tar: `ARCHIVE.tar/NAME`, as an index names images of archives."""

from __future__ import annotations

import os
import stat
import tarfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

from .errors import ImageError
from .tars import DAMAGE, Header, members

_ARCHIVES = 4
"""Archives whose places are kept: hits of one search are often of one archive."""


def read_archived(path: str | Path) -> bytes:
    """Return the bytes of `ARCHIVE.tar/NAME`.

    The headers of an archive are read once, as long as the archive does not change.

    Raises:
        ImageError: there is no such archive, no such file in it, or it ends within the file.
    """
    for parent in Path(path).parents:
        try:
            status = os.stat(parent)
        except OSError:  # not there, or below a file
            continue
        if not stat.S_ISREG(status.st_mode):
            break
        return _read(parent, Path(path).relative_to(parent).as_posix(), status)
    raise ImageError("no such file")


def _read(archive: Path, name: str, status: os.stat_result) -> bytes:
    try:
        places = _places(str(archive), status.st_size, status.st_mtime_ns)
        place = places.get(name)
        if place is None:
            raise ImageError(f"the archive {archive.name} holds no such file")
        start, size = place
        with open(archive, "rb") as file:
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise ImageError(f"the archive {archive.name} cannot be read ({error.strerror})") from None
    if len(data) < size:
        raise ImageError(f"the archive {archive.name} ends within it")
    return data


@lru_cache(_ARCHIVES)
def _places(archive: str, size: int, mtime_ns: int) -> dict[str, tuple[int, int]]:
    """Find where each file of a tar begins, and its bytes; up to where the tar is damaged.

    Size and time stand for the contents: of an archive that changed, the places are found anew.
    """
    places: dict[str, tuple[int, int]] = {}
    with open(archive, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=Header) as tar:
                for member in members(tar):
                    # Of several with one name, the first is the one that is indexed.
                    if member.isreg() and member.size <= size:
                        place = member.offset_data, member.size
                        places.setdefault(str(PurePosixPath(member.name)), place)
        except OSError:  # of the disk, which says nothing of the archive
            raise
        except DAMAGE:
            pass  # what lies before can be read; what is asked for and not found is told
    return places
