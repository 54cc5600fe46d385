"""A served index of six photos with captions and columns, by real towers in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.bundles import write_repository
from support.clients import write_photo_index
from vireo_client.bundle import Bundle

pytest.importorskip("fastapi", reason="the page's server needs vireo[web]")
pytest.importorskip("httpx2", reason="the tests of the page's server need httpx2")

from fastapi.testclient import TestClient
from vireo_web.app import create_app
from vireo_web.settings import Settings


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_repository(tmp_path_factory.mktemp("small") / "model_repository")


@pytest.fixture(scope="session")
def made(repository: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an index of six photos that no test changes."""
    return write_photo_index(tmp_path_factory.mktemp("made"), repository)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of that index, to be changed; its images stay where they are."""
    shutil.copytree(made, tmp_path / "made" / made.name)
    return tmp_path / "made" / made.name


@pytest.fixture
def serve(tmp_path: Path, repository: Bundle) -> Iterator[Callable[..., TestClient]]:
    """Open clients of an application for an index; options are those of `Settings`."""
    with ExitStack() as opened:

        def open_(index: Path, **options: Any) -> TestClient:
            options = {"model": repository.folder, "cache": tmp_path / "cache", **options}
            app = create_app(Settings(index, **options))
            return opened.enter_context(TestClient(app, base_url="http://127.0.0.1"))

        yield open_


@pytest.fixture
def client(serve: Callable[..., TestClient], made: Path) -> TestClient:
    return serve(made)


@pytest.fixture
def refused() -> Callable[..., dict[str, Any]]:
    """Check that an answer is a problem of some status, and return it."""

    def check(response: Any, status: int, error: str | None = None) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == status
        assert problem["title"]
        assert problem["detail"]
        assert error in (None, problem["error"]), problem
        return problem

    return check
