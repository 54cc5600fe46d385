"""Lets objects live on in a forked child, as under servers that load first and fork then.

A fork copies memory, but of all threads only the one that forks. What waits for another thread
then waits for ever: thread pools, engines with threads of their own, connections, and locks that
another thread held. SQLite forbids to carry a connection across.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """An object that holds what a fork breaks."""

    def after_fork(self) -> None:
        """Drop it, to make it anew at its next use; runs in the child, before anything else."""
        ...


_objects: weakref.WeakSet[Forkable] = weakref.WeakSet()


def renew_after_fork(forkable: Forkable) -> None:
    """Have `after_fork` called in each child that this process forks, while the object lives."""
    _objects.add(forkable)


def abandon(value: object) -> None:
    """Keep a value of the parent from ever being freed in this child.

    Freeing it would join threads that are not there, or close the parent's connection.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def _renew_all() -> None:
    for forkable in list(_objects):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew_all)
