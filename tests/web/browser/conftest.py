"""A real Chromium on a real server. Without Chromium or playwright these tests are skipped.

Each test leaves screenshots in `runs/browser/`, to be looked at.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.album import write_album
from vireo_client.bundle import Bundle

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from support.page_server import PageServer

SCREENSHOTS = Path(__file__).parents[3] / "runs" / "browser"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 30_000
"""Milliseconds until a page must show what is waited for; a slow machine is no failure."""

IMAGES_ARE_DRAWN = """() => [...document.images].every(image => {
    const { top, bottom } = image.getBoundingClientRect();
    return !image.src || image.complete || bottom < 0 || top > innerHeight;
})"""


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return Chromium's path; the tests are skipped without it."""
    named = os.environ.get("VIREO_CHROMIUM")
    path = named or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip(
            "the browser tests need Chromium: apt-get install chromium,"
            " or name one in VIREO_CHROMIUM"
        )
    return path


# While it is open, playwright's event loop runs in this thread, and no test of asyncio can run in
# this process: `make test` runs the browser's tests by themselves.
@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the browser tests need playwright: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 40 images in four folders; no test changes it."""
    return write_album(tmp_path_factory.mktemp("album") / "photos")


@pytest.fixture(scope="session")
def served(
    album: Path, repository: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PageServer]:
    """Serve the album's index; no test changes it."""
    from support.page_server import PageServer

    folder = tmp_path_factory.mktemp("served")
    options = {"model": repository.folder, "cache": folder / "cache", "roots": (album.parent,)}
    with PageServer(folder / "index", **options) as server:
        server.index(album)
        yield server


@pytest.fixture
def serve_page(repository: Bundle, tmp_path: Path) -> Iterator[Callable[..., PageServer]]:
    """Serve an index of the test's own; options are those of `Settings`."""
    from support.page_server import PageServer

    servers: list[PageServer] = []

    def start(index: Path | None = None, **options: Any) -> PageServer:
        options = {"model": repository.folder, "cache": tmp_path / "cache", **options}
        server = PageServer(index or tmp_path / "index", **options)
        server.__enter__()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


class Faults(list[str]):
    """What the console and the network complained of; a test forgives what it provokes."""

    def forgive(self, part: str) -> None:
        """Drop complaints that contain `part`."""
        self[:] = [fault for fault in self if part not in fault]


@pytest.fixture
def faults() -> Iterator[Faults]:
    found = Faults()
    yield found
    assert found == []


@pytest.fixture
def open_page(
    browser: Browser, faults: Faults, serve_page: Callable[..., PageServer]
) -> Iterator[Callable[..., Page]]:
    """Open pages, each as a new visitor; options are those of a browser's context.

    They are closed before the servers stop, whose end would be a fault.
    """
    contexts = []

    def open_(url: str, **options: Any) -> Page:
        options = {"viewport": {"width": 1280, "height": 800}, "locale": "vi-VN", **options}
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on(
            "console",
            lambda line: line.type in ("error", "warning") and faults.append(line.text),
        )
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture
def picture() -> Callable[[Page, str], None]:
    """Keep a screenshot as `runs/browser/NAME.png`, when all images are drawn."""

    def take(page: Page, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.wait_for_function(IMAGES_ARE_DRAWN)
        page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    return take
