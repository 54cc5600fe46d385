"""The folder that a server reads: its own copy of the publication that it serves."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from itertools import count
from pathlib import Path

from .publication import Stamp, copy_publication
from .slots import Layout


class ServingFolder:
    """Holds copies of publications, and the folder (`root`) in which Triton finds its models.

    It lies beside the repository, so that copies are hard links; where that folder may not be
    written, it lies in the temporary folder and holds real copies. A server removes such folders of
    servers that were killed.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        prefix = f".{repository.resolve().name}-serving-"
        parent = repository.resolve().parent
        _remove_abandoned(parent, prefix)
        try:
            folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
        except OSError:
            folder = tempfile.mkdtemp(prefix=prefix)
        self._folder = Path(folder)
        self._lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.root = self._folder / "models"
        self.root.mkdir()
        self._serials = count(1)

    def copy_repository(self) -> tuple[Layout, Stamp]:
        """Copy the present publication of the repository; see `publication.copy_publication`."""
        serial = next(self._serials)
        copy = self._folder / f"publication-{serial}"
        publication, stamp = copy_publication(self._repository, copy)
        tag = str(max(publication.versions.values()))
        if (self.root / f"{publication.engines()[0]}@{tag}").exists():
            tag = f"{tag}.{serial}"  # the same number published again
        return Layout(publication, self.root, tag), stamp

    def keep_only(self, layout: Layout) -> None:
        """Remove the copies of other publications."""
        for folder in self._folder.glob("publication-*"):
            if folder != layout.publication.folder:
                shutil.rmtree(folder, ignore_errors=True)

    def with_repository_paths(self, text: str) -> str:
        """Return a message of Triton in one line, with the repository's paths instead of ours."""
        root = re.escape(f"{self.root}{os.sep}")
        text = re.sub(rf"{root}([^/@\s]+)(@[^/\s]+)?", rf"{self._repository}{os.sep}\1", text)
        return " ".join(text.split())

    def close(self) -> None:
        """Remove the folder; calling it twice does no harm."""
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        try:
            with (folder / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # its server runs, or another one creates or removes it at this moment
