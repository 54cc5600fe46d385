"""Where the shared test data is, for tests that need it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def data_file(*parts: str) -> Path:
    """A file or folder of the shared data; the test is skipped, saying so, where it is absent."""
    folder = Path(os.environ.get("VIREO_DATA") or _ROOT.parent / "shared" / "data")
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}; VIREO_DATA names the data folder")
    return path
