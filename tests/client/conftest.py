"""The client's tests use a bundle that is written by hand, in place of one that is trained."""

from __future__ import annotations

import shutil

import pytest
from support.bundles import write_bundle, write_repository
from support.clients import CLIENTS, open_client, write_photo_index
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


@pytest.fixture(scope="module")
def made(repository, tmp_path_factory):
    """Return an index of six photos that no test changes."""
    return write_photo_index(tmp_path_factory.mktemp("made"), repository)


@pytest.fixture
def folder(made, tmp_path):
    """Return a copy of that index, to be changed, beside its images."""
    shutil.copytree(made.parent, tmp_path / "made")
    return tmp_path / "made" / made.name


@pytest.fixture(params=CLIENTS)
def client(request, made):
    with open_client(request.param, made) as client:
        yield client


@pytest.fixture(params=CLIENTS)
def writable(request, folder, repository):
    with open_client(request.param, folder, model=repository.folder) as client:
        yield client
