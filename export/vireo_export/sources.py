"""The sources of an export, and where a source's repository goes."""

from __future__ import annotations

import re
from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE
from vireo_training.sources import Source, open_source

__all__ = ["Source", "open_source", "repository_for"]


def repository_for(name: str | Path) -> Path:
    """Return the default folder of a source's model repository.

    It is `model_repository` beside a bundle, and `NAME_repository` in the current folder for other
    sources.
    """
    folder = Path(name)
    if (folder / BUNDLE_FILE).is_file():
        return folder.resolve().parent / "model_repository"
    last = re.split(r"[/:]", str(name).rstrip("/"))[-1]
    return Path(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', last)}_repository")
