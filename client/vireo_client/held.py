"""Folders that a running process holds; those of processes that were killed are removed.

A folder is held by a lock on it (`flock`), which the kernel drops when the process ends, however
that happens. Nobody has to know the process's number, which may be another program's by now. NFS
and some other file systems cannot lock a folder: there, nothing is ever taken for abandoned.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from glob import escape
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_RANDOM = re.compile(r"[a-z0-9_]{8}")
"""What `tempfile` puts behind a prefix. A folder of another name is somebody's own."""


class HeldFolder:
    """A new folder `PREFIXxxxxxxxx` that this process holds until `close`.

    Args:
        parent: where to make it.
        prefix: begins the names of such folders, and of no others.

    Raises:
        OSError: `parent` cannot be written, or this process has too many files open.
    """

    def __init__(self, parent: Path, prefix: str) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            try:
                self._lock = _lock(self.path, wait=True)
                return
            except FileNotFoundError:
                pass  # before it was locked, another process took it for an abandoned one
            except OSError:
                self.path.rmdir()
                raise

    def close(self) -> None:
        """Remove whatever has the folder's name now; calling it twice does no harm."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()


def temporary_folder(prefix: str, parent: Path | None = None) -> HeldFolder:
    """Make a folder in `parent`, and remove those of `prefix` there that nobody holds.

    Args:
        prefix: begins the names of such folders, and of no others.
        parent: where to make it; by default the system's folder for temporary files.

    Raises:
        OSError: `parent` cannot be written.
    """
    parent = parent or Path(tempfile.gettempdir())
    for _ in remove_abandoned(parent, prefix):
        pass
    return HeldFolder(parent, prefix)


def remove_abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Remove the folders that no living process holds; yield each before it is removed."""
    if sys.platform == "win32":
        return
    for folder in sorted(parent.glob(f"{escape(prefix)}*")):
        if not _RANDOM.fullmatch(folder.name.removeprefix(prefix)):
            continue
        try:
            lock = _lock(folder, wait=False)
        except OSError:
            continue  # it is held, or somebody else's
        try:
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int:
    """Lock a folder, and return the open lock; -1 if `wait`, and the file system has no locks.

    Raises:
        FileNotFoundError: it is gone.
        OSError: it is locked, or not ours.
    """
    if sys.platform == "win32":
        return -1
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(lock)
        if wait:
            return -1
        raise
    try:
        if os.path.samestat(os.stat(folder, follow_symlinks=False), os.fstat(lock)):
            return lock
        raise FileNotFoundError(f"{folder}: was removed before it was locked")
    except OSError:
        os.close(lock)
        raise
