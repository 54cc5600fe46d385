"""Hard links in place of copies."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""Errors of a link to another file system, or on one without hard links or with no more of them."""


def link(source: str | Path, target: str | Path) -> None:
    """Make `target` the same file as `source`, or a copy where that is impossible.

    Engines are large, and the files of a version never change.

    Raises:
        FileExistsError: `target` exists. It is never replaced.
        OSError: there is no `source`, or `target` cannot be written.
    """
    try:
        os.link(os.path.realpath(source), target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        shutil.copy2(source, target)
