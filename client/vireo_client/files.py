"""Replaces files and folders so that a reader sees the old or the new one, never half of each."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import VireoError
from .held import HeldFolder, remove_abandoned

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replacing(target: Path, *, marker: str) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes `target` in one step.

    That happens when the block ends without an error. If it raises, `target` stays as it was and
    the new folder is removed. If the process is killed, the next replacement removes it, unless the
    file system has no locks (`held`).

    Args:
        target: the folder to write or replace.
        marker: a file that a folder of this kind holds. A `target` that holds other files and not
            this one belongs to somebody else, and is refused.

    Raises:
        VireoError: `target` is a file, or a folder of another kind.
    """
    replaceable = not target.exists() or (target / marker).is_file()
    if not replaceable and (target.is_file() or any(target.iterdir())):
        raise VireoError(f"{target}: exists and holds no {marker}; choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}-draft-"
    # Elsewhere, without a target, a folder may be the only one that a killed exchange left.
    if target.exists() or sys.platform == "linux":
        for _ in remove_abandoned(target.parent, prefix):
            pass
    held = HeldFolder(target.parent, prefix)
    draft = held.path
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp's 0700 would lock a server's user out
        if target.exists():
            _exchange(draft, target)
        else:
            draft.rename(target)
    finally:
        held.close()  # the path is the failed draft, or the folder that was replaced


def _exchange(draft: Path, target: Path) -> None:
    """Swap two folders: in one step on Linux; elsewhere, `target` is absent for an instant."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.renameat2(
            _AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(target), _RENAME_EXCHANGE
        )
        if done == 0:
            return
    aside = draft.with_name(draft.name + ".old")
    target.rename(aside)
    draft.rename(target)
    aside.rename(draft)


@contextmanager
def replacing_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write, which becomes `path` in one step.

    That happens when the block ends without an error. If it raises, or the disk is full, `path`
    stays as it was and nothing is left beside it.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the contents do
        draft.chmod(0o644)  # mkstemp's 0600 would lock a server's user out
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
