"""Both clients behind one face, so that one test holds for both; and a small index of photos."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from vireo_client.aio import AsyncSearchClient
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.index import IndexWriter, Matches
from vireo_client.indexing.pipeline import index_images
from vireo_client.search import SearchClient
from vireo_client.towers.onnx import OnnxTowers

CLIENTS = ("threads", "asyncio")
"""The kinds of client."""


def write_photo_index(folder: Path, repository: Bundle) -> Path:
    """Writes six images with a caption each (`photos/0.png`: "ảnh số 0") and their index."""
    (folder / "photos").mkdir()
    records = []
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        path = folder / "photos" / f"{number}.png"
        Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC).save(path)
        records.append(CaptionedImage(path, (f"ảnh số {number}",)))
    with (
        Embedder(repository, OnnxTowers.from_repository(repository)) as embedder,
        IndexWriter(folder / "index", repository) as writer,
    ):
        index_images(writer, embedder, records)
    return folder / "index"


class InLoop:
    """An `AsyncSearchClient` whose verbs are called as those of a `SearchClient`.

    An event loop runs in a thread of its own, and the client in it.
    """

    def __init__(self, client: AsyncSearchClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            asked = getattr(self._client, verb)(*arguments, **options)
            return asyncio.run_coroutine_threadsafe(asked, self._loop).result(60)

        return call

    def end(self) -> None:
        """Closes the client and ends the loop."""
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@contextmanager
def open_client(kind: str, index: Path, **options: Any) -> Iterator[Any]:
    """Opens a client of one of the `CLIENTS`."""
    if kind == "threads":
        with SearchClient(index, **options) as client:
            yield client
    else:
        client = InLoop(AsyncSearchClient(index, **options))
        try:
            yield client
        finally:
            client.end()


def assert_near(first: Matches, second: Matches, most: float = 1e-5) -> None:
    """Checks that two answers name the same images in order; scores differ by `most` at most."""
    assert first.paths == second.paths
    assert np.abs(first.scores - second.scores).max() < most
