"""Vireo's ways from a text to ten images, and its bare towers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..load.loops import Ask

K = 10
Rows = tuple[tuple[int, ...], ...]
"""Ids of texts, a tuple for each text, all of one length."""


@dataclass(frozen=True)
class Search:
    """`SearchClient.search`, through Triton or in process.

    Args:
        index: the index's folder.
        repository: the model repository.
        url: Triton's `host:port`; None runs the towers in process.
        texts: what is searched for, in turn.
    """

    index: Path
    repository: Path
    url: str | None
    texts: tuple[str, ...]

    def open(self) -> Ask:
        """Open the client and return the function that searches."""
        from vireo_client import SearchClient

        client = SearchClient(self.index, model=self.repository, triton=self.url)
        texts = self.texts
        return lambda number: client.search(texts[number % len(texts)], k=K)


@dataclass(frozen=True)
class StagedSearch(Search):
    """The same stages one by one, each with its seconds.

    A call returns seconds of `segment`, `tokenize`, `embed` and `search`.
    """

    def open(self) -> Ask:
        """Open embedder and index and return the function that times the stages."""
        from vireo_client.bundle import Bundle
        from vireo_client.index import Index
        from vireo_client.search import open_embedder

        bundle = Bundle(self.repository)
        embedder = open_embedder(bundle, self.url)
        index = Index(self.index, bundle)
        path, texts = embedder.text_path, self.texts

        def ask(number: int) -> dict[str, float]:
            marks = [time.perf_counter()]
            segmented = path.segment(texts[number % len(texts)])
            marks.append(time.perf_counter())
            ((_, ids),) = path.tokenizer.pad(path.tokenizer.ids([segmented]))
            marks.append(time.perf_counter())
            vector = embedder.towers.encode_text(ids)
            marks.append(time.perf_counter())
            index.search_images(vector, K)
            marks.append(time.perf_counter())
            names = ("segment", "tokenize", "embed", "search")
            return {n: b - a for n, a, b in zip(names, marks, marks[1:], strict=False)}

        return ask


@dataclass(frozen=True)
class Tower:
    """A bare tower in process: ready ids or pixels in, embeddings out.

    Args:
        engine: the ONNX file.
        rows: ids; where there are none, images of this edge are run.
        size: the images' edge.
        batch: rows of a call.
        plain: whether ONNX Runtime's own session runs it, in place of our engine.
    """

    engine: Path
    rows: Rows = ()
    size: int = 0
    batch: int = 1
    plain: bool = False

    def values(self) -> np.ndarray:
        """Return what is run: INT32 `[M, L]` or UINT8 `[M, 3, H, W]`, M at least the batch."""
        if self.rows:
            return np.resize(
                np.array(self.rows, np.int32), (max(len(self.rows), self.batch), len(self.rows[0]))
            )
        rng = np.random.default_rng(0)
        return rng.integers(0, 256, (self.batch, 3, self.size, self.size), np.uint8)

    def open(self) -> Ask:
        """Load the tower and return the function that runs batch number N."""
        run = _plain(self.engine) if self.plain else _engine(self.engine)
        values = self.values()
        parts = [
            values[n : n + self.batch] for n in range(0, len(values) - self.batch + 1, self.batch)
        ]
        return lambda number: run(parts[number % len(parts)])


def _engine(path: Path) -> Any:
    from vireo_client.towers.engine import OnnxEngine

    return OnnxEngine(path).run


def _plain(path: Path) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda values: session.run(["embedding"], {name: values})[0]
