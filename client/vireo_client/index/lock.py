"""The lock of an index: one writer at a time, and the others are told who it is."""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import sys
from datetime import datetime
from pathlib import Path

from ..errors import IndexLocked, SearchIndexError

LOCK_FILE = "writer.lock"
HOLDER_FILE = "writer.json"

logger = logging.getLogger(__name__)


class WriterLock:
    """The right to write to one index, from its making to `close`.

    SQLite's file lock works on every system and goes with the process that held it, so that there
    are no stale ones. The file beside it only says who holds the lock.

    Args:
        folder: the index.

    Raises:
        IndexLocked: another process, or another writer of this one, holds it.
        SearchIndexError: the lock file cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self._holder = folder / HOLDER_FILE
        try:
            self._db = sqlite3.connect(
                folder / LOCK_FILE, timeout=0, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise SearchIndexError(f"{folder / LOCK_FILE}: cannot be opened ({error})") from error
        try:
            # Without a journal on the disk, the lock can be taken while the disk is full.
            self._db.execute("PRAGMA journal_mode = MEMORY")
            self._db.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            self._db.close()
            if "locked" in str(error):
                raise IndexLocked(
                    f"{folder}: another process is writing here{read_holder(folder)}; try again "
                    "when it has finished"
                ) from None
            raise SearchIndexError(f"{folder / LOCK_FILE}: cannot be locked ({error})") from error
        try:
            self._holder.write_text(_describe_self())
        except OSError as error:  # a full disk, say: the writer may have come to free some of it
            logger.warning("%s: cannot be written (%s)", self._holder, error.strerror)

    def close(self) -> None:
        """Give the lock back; calling it twice does no harm."""
        try:
            self._db.execute("SELECT 1")
        except sqlite3.ProgrammingError:
            return
        self._holder.unlink(missing_ok=True)
        self._db.close()


def read_holder(folder: Path) -> str:
    """Describe who holds the lock, in brackets after a space; empty where nothing says so."""
    try:
        holder = json.loads((folder / HOLDER_FILE).read_text())
        return (
            f" (process {holder['pid']} on {holder['host']} since {holder['since']}: "
            f"{holder['command']})"
        )
    except (OSError, ValueError, KeyError, TypeError):  # it is being written, or the disk was full
        return ""


def _describe_self() -> str:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join(sys.argv),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    return json.dumps(holder, ensure_ascii=False) + "\n"
