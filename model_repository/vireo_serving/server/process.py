"""How a server process ends: with its parent, and on signals."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1

# Loaded before any fork: a child may not allocate much between fork and exec.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Runs in the child: asks the kernel to end it when its parent dies, however that happens."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def handling_signals() -> Iterator[threading.Event]:
    """Turns SIGTERM into KeyboardInterrupt, so that `vireo serve` ends the same way by both.

    SIGHUP sets the event that this gives: it asks for a reload. Only the hang-up of the terminal
    from which the server was started still ends it.
    """
    asked = threading.Event()
    had_terminal = os.isatty(0)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def hang_up(*_: object) -> None:
        if had_terminal and not os.isatty(0):
            raise KeyboardInterrupt
        asked.set()

    previous = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGTERM, interrupt), (signal.SIGHUP, hang_up))
    }
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
