"""The bundle of most indexes here: it has no weights, as an index needs none."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_index import write_small_bundle
from vireo_client.bundle import Bundle


@pytest.fixture
def small_bundle(tmp_path: Path) -> Bundle:
    return write_small_bundle(tmp_path / "model_repository")
