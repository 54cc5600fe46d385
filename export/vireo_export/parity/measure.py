"""Measure engines against PyTorch: the figures that the gate checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder, Embeddings
from vireo_client.images import load_pixels
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL
from vireo_client.towers.engine import OnnxEngine
from vireo_training.evaluation.evaluate import (
    CorpusEmbeddings,
    captions_of,
    embed_corpus,
    embed_images,
)
from vireo_training.evaluation.metrics import WAYS, retrieval_metrics
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.sources import Source

from ..precision import ALL_FP32, Precision, Precisions, engine_bytes
from ..precision.build import Engine, EngineQuality
from .gate import (
    RECALLS,
    EngineParity,
    Parity,
    ShapeParity,
    TowerParity,
    allowed_loss,
    recall_loss,
)
from .latency import median_seconds
from .probes import ROWS, batch_shapes, text_probes

Tower = Literal["text", "image"]
FIRST_LOOK = 32
"""Captions or images on which an engine is looked at before it is measured on all."""
MODEL_OF: dict[Tower, str] = {"text": TEXT_MODEL, "image": IMAGE_MODEL}


def measure_parity(
    reference: CorpusEmbeddings,
    embedder: Embedder,
    records: Sequence[CaptionedImage],
    precisions: Precisions = ALL_FP32,
) -> Parity:
    """Embed captioned images with `embedder` and compare the vectors with PyTorch's.

    Args:
        reference: PyTorch's vectors of the same images and captions.
        embedder: runs both towers, for example on a server.
        records: captioned images.
        precisions: the precision of each tower.

    Raises:
        DataError: no image can be read.
    """
    corpus = embed_corpus(embedder, records)
    return Parity(
        embedder.towers.name,
        vector_parity(reference.texts, corpus.texts),
        vector_parity(reference.images, corpus.images),
        retrieval_metrics(reference.images, reference.texts, reference.owner, reference.same),
        retrieval_metrics(corpus.images, corpus.texts, corpus.owner, corpus.same),
        precisions,
    )


def vector_parity(
    expected: npt.NDArray[np.float32], vectors: npt.NDArray[np.float32]
) -> TowerParity:
    """Compare vectors FP32 `[N, D]` row by row."""
    x, y = expected.astype(np.float64), vectors.astype(np.float64)
    cosine = (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return TowerParity(len(x), float(cosine.min()), float(cosine.mean()), float(abs(x - y).max()))


class SingleTower:
    """One engine in the form that an `Embedder` takes: it embeds captions alone, or images alone.

    So captions and images pass through the same preprocessing as in a search.

    Args:
        engine: either tower's engine; the caller closes it.
    """

    name = "onnx"
    max_batch_size = 64

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> Embeddings:
        """Run a text tower: INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        return self._engine.run(input_ids)

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> Embeddings:
        """Run an image tower: UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return self._engine.run(pixels)

    def close(self) -> None:
        """Do nothing: the caller closes the engine."""


@dataclass(frozen=True, slots=True)
class _Probe:
    """Inputs of one shape, and PyTorch's vectors of them."""

    bucket: int | None
    rows: npt.NDArray[Any]
    expected: Embeddings


@dataclass(frozen=True, slots=True)
class _Answers:
    """An engine's vectors of the corpus and of the probes."""

    corpus: Embeddings
    """FP32 `[N, D]`, vectors of all captions or of all images."""
    shapes: tuple[Embeddings, ...]
    """FP32 `[N, D]`, vectors of each probe at each of its batch sizes."""


class ParityMeasurement:
    """Embeds captioned images with PyTorch once, and with one engine after another.

    Each engine file is opened once. One that does not pass is closed at once; the others stay open
    until their tower has been measured.

    Args:
        source: the model.
        records: captioned images.
        fp32: the FP32 engines by model name; latencies are relative to theirs.
        threads: threads of one inference; 0 for all cores.

    Raises:
        DataError: no image can be read.
    """

    def __init__(
        self,
        source: Source,
        records: Sequence[CaptionedImage],
        fp32: dict[str, Path],
        *,
        threads: int = 0,
    ) -> None:
        self._bundle: Bundle = source.bundle
        self._fp32, self._threads = fp32, threads
        config = self._bundle.config
        torch_towers = TorchTowers(source.text_tower, source.image_tower)
        with Embedder(self._bundle, torch_towers) as reference:
            self.corpus = embed_corpus(reference, records)
            self.captions, _ = captions_of(self.corpus.records)
            texts = text_probes(reference.text_path, self.captions, config.text)
            images = np.stack(
                [load_pixels(r.path, config.image) for r in self.corpus.records[:ROWS]]
            )
            self._probes: dict[Tower, list[_Probe]] = {
                "text": [
                    _Probe(bucket, ids, torch_towers.encode_text(ids))
                    for bucket, ids in texts.items()
                ],
                "image": [_Probe(None, images, torch_towers.encode_image(images))],
            }
        self.metrics = self._metrics("text", self.corpus.texts)
        self._answers: dict[Path, _Answers] = {}
        self._opened: dict[Path, OnnxEngine] = {}

    def quality(self, tower: Tower, path: Path, precision: Precision) -> EngineQuality:
        """Measure one engine; the other tower's vectors are PyTorch's.

        A few captions or images come first: an engine that fails on these is not measured further.

        Raises:
            EngineError: the engine does not load or does not run.
        """
        settings = self._bundle.config.export
        required = getattr(settings, precision).min_cosine
        engine = self._open(tower, path)
        first = self._embed(tower, engine, FIRST_LOOK)
        worst = vector_parity(self._expected(tower)[: len(first)], first).min_cosine
        (seconds,) = median_seconds([engine.run], self._probes[tower][0].rows[:1])
        compared, passes = len(first), False
        recall: float | None = None
        if worst >= required:
            answers = self._answers_of(tower, path)
            compared = len(answers.corpus)
            # NumPy's minimum is NaN where any is NaN, so that NaN fails; Python's need not be.
            worst = float(np.min([p.min_cosine for p in self._parities(tower, answers)]))
            metrics = self._metrics(tower, answers.corpus)
            recall = float(np.mean([metrics[way][key] for way in WAYS for key in RECALLS]))
            allowed = allowed_loss(Precisions(**{tower: precision}), self.metrics, settings)
            passes = worst >= required and recall_loss(self.metrics, metrics) <= allowed
        if not passes:
            self._close(path)
        return EngineQuality(passes, recall, worst, compared, 1e3 * seconds, required)

    def _parities(self, tower: Tower, answers: _Answers) -> list[TowerParity]:
        """Compare an engine's answers with PyTorch's: the corpus, then each shape."""
        expected = [probe.expected for probe, _ in self._shapes(tower)]
        return [
            vector_parity(self._expected(tower), answers.corpus),
            *map(vector_parity, expected, answers.shapes),
        ]

    def embedding(self, text: Engine) -> Callable[[list[str]], Embeddings]:
        """Return a function that embeds queries, FP32 `[N, D]`, with a text tower's engine.

        It raises a `DataError` for a text of which the tokenizer knows nothing.
        """

        def embed(texts: list[str]) -> Embeddings:
            engine = self._open("text", text.compared)
            with Embedder(self._bundle, SingleTower(engine)) as embedder:
                return embedder.embed_texts(texts)

        return embed

    def parity(self, engines: dict[Tower, Engine]) -> Parity:
        """Measure the engines to publish, one for each tower, and the FP32 ones beside them."""
        measured = [
            figures
            for tower, engine in engines.items()
            for figures in self._measure_tower(tower, engine)
        ]
        texts, images = (self._answers[engines[t].compared].corpus for t in ("text", "image"))
        return Parity(
            SingleTower.name,
            vector_parity(self.corpus.texts, texts),
            vector_parity(self.corpus.images, images),
            self.metrics,
            retrieval_metrics(images, texts, self.corpus.owner, self.corpus.same),
            Precisions(engines["text"].precision, engines["image"].precision),
            tuple(measured),
        )

    def _measure_tower(self, tower: Tower, engine: Engine) -> list[EngineParity]:
        fp32 = Engine("fp32", self._fp32[MODEL_OF[tower]])
        baseline = self._open(tower, fp32.path)
        self._answers_of(tower, fp32.path)
        measured = [self._figures(tower, fp32, self._latencies(tower, [baseline]))]
        if engine.precision != "fp32":
            self._answers_of(tower, engine.compared)
            if engine.compared != engine.path:  # an FP16 engine, see `with_rounding`
                self._close(engine.compared)
            latencies = self._latencies(tower, [self._open(tower, engine.path), baseline])
            measured.append(self._figures(tower, engine, latencies))
        for path in {fp32.path, engine.path}:
            self._close(path)
        return measured

    def _open(self, tower: Tower, path: Path) -> OnnxEngine:
        if path not in self._opened:
            padding = self._bundle.config.text.free_padding if tower == "text" else None
            self._opened[path] = OnnxEngine(path, self._threads, padding=padding)
        return self._opened[path]

    def _close(self, path: Path) -> None:
        if (engine := self._opened.pop(path, None)) is not None:
            engine.close()

    def close(self) -> None:
        """Close the engines that are open."""
        for path in list(self._opened):
            self._close(path)

    def _answers_of(self, tower: Tower, path: Path) -> _Answers:
        if path not in self._answers:
            engine = self._open(tower, path)
            shapes = [
                np.concatenate(
                    [
                        engine.run(probe.rows[start : start + batch])
                        for start in range(0, len(probe.rows), batch)
                    ]
                )
                for probe, batch in self._shapes(tower)
            ]
            self._answers[path] = _Answers(self._embed(tower, engine), tuple(shapes))
        return self._answers[path]

    def _embed(self, tower: Tower, engine: OnnxEngine, count: int | None = None) -> Embeddings:
        """Embed the corpus, or its first captions or images."""
        with Embedder(self._bundle, SingleTower(engine)) as embedder:
            if tower == "text":
                return embedder.embed_texts(self.captions[:count], allow_unknown=True)
            return embed_images(embedder, self.corpus.records[:count])[1]

    def _shapes(self, tower: Tower) -> list[tuple[_Probe, int]]:
        """Return each probe with each batch size that it is run in."""
        return [
            (probe, batch) for probe in self._probes[tower] for batch in batch_shapes(probe.rows)
        ]

    def _latencies(self, tower: Tower, engines: Sequence[OnnxEngine]) -> list[list[float]]:
        """Return, for each shape, the median seconds of each engine."""
        encoders = [engine.run for engine in engines]
        return [
            median_seconds(encoders, probe.rows[:batch]) for probe, batch in self._shapes(tower)
        ]

    def _figures(self, tower: Tower, engine: Engine, latencies: list[list[float]]) -> EngineParity:
        """Compare an engine's answers with PyTorch's.

        Args:
            tower: which tower it is.
            engine: the engine, already run.
            latencies: for each shape, seconds of this engine first and of the FP32 one last.
        """
        answers = self._answers[engine.compared]
        corpus, *shapes = self._parities(tower, answers)
        metrics = self._metrics(tower, answers.corpus)
        return EngineParity(
            tower=tower,
            precision=engine.precision,
            how=engine.how,
            bytes=engine_bytes(engine.path),
            size_ratio=engine_bytes(engine.path) / engine_bytes(self._fp32[MODEL_OF[tower]]),
            vectors=corpus,
            recall={way: {key: metrics[way][key] for key in RECALLS} for way in WAYS},
            shapes=tuple(
                ShapeParity(
                    bucket=probe.bucket,
                    batch=batch,
                    vectors=vectors,
                    latency_ms=1e3 * seconds[0],
                    latency_ratio=seconds[0] / seconds[-1],
                )
                for (probe, batch), vectors, seconds in zip(
                    self._shapes(tower), shapes, latencies, strict=True
                )
            ),
            tried=engine.tried,
        )

    def _expected(self, tower: Tower) -> Embeddings:
        return self.corpus.texts if tower == "text" else self.corpus.images

    def _metrics(self, tower: Tower, vectors: Embeddings) -> dict[str, dict[str, float]]:
        texts = vectors if tower == "text" else self.corpus.texts
        images = vectors if tower == "image" else self.corpus.images
        return retrieval_metrics(images, texts, self.corpus.owner, self.corpus.same)
