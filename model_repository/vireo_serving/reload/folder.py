"""The folder that a server reads: its own copy of the publication that it serves."""

from __future__ import annotations

import os
import re
import shutil
from itertools import count
from pathlib import Path

from vireo_client.held import temporary_folder

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
        prefix = f".{repository.resolve().name}-server-"
        try:
            self._held = temporary_folder(prefix, repository.resolve().parent)
        except OSError:  # it may not be written
            self._held = temporary_folder(prefix)
        self._folder = self._held.path
        self.root = self._folder / "models"
        self.root.mkdir()
        self._serials = count(1)

    def copy_repository(self) -> tuple[Layout, Stamp]:
        """Copy the present publication of the repository; see `publication.copy_publication`."""
        serial = next(self._serials)
        copy = self._folder / f"publication-{serial}"
        publication, stamp = copy_publication(self._repository, copy)
        tag = str(max(publication.versions.values()))
        if any(self.root.glob(f"*@{tag}")):
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
        self._held.close()
