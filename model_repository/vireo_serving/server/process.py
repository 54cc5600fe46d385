"""The end of a server process: with its parent, and on signals."""

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
    """Let the kernel end this child process when its parent dies, however that happens."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def handling_signals() -> Iterator[threading.Event]:
    """Raise KeyboardInterrupt on SIGTERM, and set an event on SIGHUP.

    `vireo serve` ends the same way by SIGTERM and by Ctrl-C, and reloads when the event is set.
    Only the hang-up of the terminal from which the server was started still ends it.

    Yields:
        The event.
    """
    reload_requested = threading.Event()
    had_terminal = os.isatty(0)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def hang_up(*_: object) -> None:
        if had_terminal and not os.isatty(0):
            raise KeyboardInterrupt
        reload_requested.set()

    previous = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGTERM, interrupt), (signal.SIGHUP, hang_up))
    }
    try:
        yield reload_requested
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
