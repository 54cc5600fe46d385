"""The client's tests use a bundle that is written by hand, in place of one that is trained."""

from __future__ import annotations

import shutil

import pytest
from support.bundles import write_bundle, write_repository
from vireo_client.bundle import Bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("small") / "bundle")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_repository(tmp_path_factory.mktemp("small") / "model_repository")


@pytest.fixture
def photos(scenes, tmp_path):
    """Return a folder of six images, `a.png` to `f.png`."""
    folder = tmp_path / "photos"
    folder.mkdir()
    images = sorted((scenes / "test" / "images").iterdir())
    for name, path in zip("abcdef", images, strict=False):
        shutil.copy(path, folder / f"{name}.png")
    return folder
