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
    written, it lies in the temporary folder and holds real copies. What a server that was killed
    left behind is removed by the next one.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        prefix = f".{repository.resolve().name}-serving-"
        parent = repository.resolve().parent
        _remove_abandoned(parent, prefix)
        try:
            made = tempfile.mkdtemp(prefix=prefix, dir=parent)
        except OSError:
            made = tempfile.mkdtemp(prefix=prefix)
        self._folder = Path(made)
        self._lock = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.root = self._folder / "models"
        self.root.mkdir()
        self._serials = count(1)

    def copy_repository(self) -> tuple[Layout, Stamp]:
        """Copies what the repository now holds; see `publication.copy_publication`."""
        serial = next(self._serials)
        publication, stamp = copy_publication(
            self._repository, self._folder / f"publication-{serial}"
        )
        tag = str(max(publication.versions.values()))
        if (self.root / f"{publication.engines()[0]}@{tag}").exists():
            tag = f"{tag}.{serial}"  # the same number published again
        return Layout(publication, self.root, tag), stamp

    def keep_only(self, layout: Layout) -> None:
        """Removes the copies of other publications."""
        for folder in self._folder.glob("publication-*"):
            if folder != layout.publication.folder:
                shutil.rmtree(folder, ignore_errors=True)

    def named_for_people(self, text: str) -> str:
        """Makes one line of a message of Triton, with the repository's paths in it."""
        within = re.escape(f"{self.root}{os.sep}")
        shown = re.sub(rf"{within}([^/@\s]+)(@[^/\s]+)?", rf"{self._repository}{os.sep}\1", text)
        return " ".join(shown.split())

    def close(self) -> None:
        """Removes the folder; calling it twice does no harm."""
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
            continue  # its server lives, or it is being made or removed just now
