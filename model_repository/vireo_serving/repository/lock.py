"""The lock under which the folder of a model repository is exchanged."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(repository: Path) -> Iterator[None]:
    """Keep other publications and rollbacks of a repository waiting until the block ends.

    What a block reads of the repository then still holds when it exchanges the folder. The lock is
    the file `.NAME.lock` beside the repository: one inside would be exchanged too. The kernel drops
    the lock of a process that is killed.

    Raises:
        OSError: the folder above the repository cannot be written.
    """
    path = repository.parent / f".{repository.name}.lock"
    lock = _take(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _take(path: Path) -> int:
    while True:
        lock = _open(path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.stat(path), os.fstat(lock)):
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)  # the one who held it before has removed it


def _open(path: Path) -> int:
    """Open the lock's file, making it if it is missing."""
    flags = os.O_CREAT | os.O_CLOEXEC
    try:
        # NFS gives an exclusive lock only on a file that is open for writing.
        return os.open(path, os.O_RDWR | flags, 0o666)
    except PermissionError:  # another user made it; where the disk is local, this suffices
        return os.open(path, os.O_RDONLY | flags, 0o666)
