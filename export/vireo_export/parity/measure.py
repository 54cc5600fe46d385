"""Runs engines beside PyTorch and beside each other: the figures that the gate judges."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder, Embeddings
from vireo_client.images import load_pixels
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL
from vireo_client.towers.onnx import OnnxTowers
from vireo_training.evaluation.evaluate import captions_of, embed_corpus, embed_pictures
from vireo_training.evaluation.metrics import WAYS, retrieval_metrics
from vireo_training.models.torch_towers import TorchTowers

from ..precision import Precision, Precisions, engine_bytes
from ..precision.build import Engine, Verdict
from ..sources import Source
from .gate import (
    RECALLS,
    EngineParity,
    Parity,
    ShapeParity,
    TowerParity,
    allowed_loss,
    compare_vectors,
    recall_loss,
)
from .probes import ROWS, batch_shapes, text_probes

Tower = Literal["text", "image"]
MODEL_OF: dict[Tower, str] = {"text": TEXT_MODEL, "image": IMAGE_MODEL}
_ROUNDS = 7
_SECONDS = 2.0
"""Of one shape's timing, after the three rounds that it gets in any case."""

Encode = Callable[[npt.NDArray[Any]], Embeddings]


class Proof:
    """PyTorch's answers to captioned pictures, and what engines make of the same.

    Args:
        source: the model.
        records: captioned pictures.
        fp32: the FP32 engines by model name; a tower's engine runs beside the other's.
        threads: of one inference; 0 takes all cores.
        open_towers: loads a pair of engines, text first.

    Raises:
        DataError: not one picture can be read.
    """

    def __init__(
        self,
        source: Source,
        records: Sequence[CaptionedImage],
        fp32: dict[str, Path],
        *,
        threads: int = 0,
        open_towers: Callable[..., OnnxTowers] = OnnxTowers,
    ) -> None:
        self._bundle = source.bundle
        self._torch = TorchTowers.of(source.text_tower, source.image_tower)
        self._fp32, self._threads, self._open = fp32, threads, open_towers
        with Embedder(self._bundle, self._torch) as reference:
            self.corpus = embed_corpus(reference, records)
            self.captions, _ = captions_of(self.corpus.records)
            config = self._bundle.config
            pictures = [load_pixels(r.path, config.image) for r in self.corpus.records[:ROWS]]
            texts = text_probes(reference.text_path, self.captions, config.text)
        self._probes: dict[Tower, dict[int | None, npt.NDArray[Any]]] = {
            "text": texts,
            "image": {None: np.stack(pictures)},
        }
        self.metrics = self._metrics("text", self.corpus.texts)
        self._vectors: dict[Path, Embeddings] = {}

    def verdict(self, tower: Tower, path: Path, precision: Precision) -> Verdict:
        """Judges one engine, the other tower being PyTorch's."""
        settings = self._bundle.config.export
        vectors = self.vectors(tower, path)
        metrics = self._metrics(tower, vectors)
        recalls = [metrics[way][key] for way in WAYS for key in RECALLS]
        worst = compare_vectors(self._expected(tower), vectors).min_cosine
        allowed = allowed_loss(Precisions(**{tower: precision}), self.metrics, settings)
        passes = (
            worst >= getattr(settings, precision).min_cosine
            and recall_loss(self.metrics, metrics) <= allowed
        )
        return Verdict(passes, float(np.mean(recalls)), worst)

    def parity(self, engines: dict[Tower, Engine]) -> Parity:
        """Compares the engines that are to be published, and the FP32 ones beside them."""
        texts, images = (self.vectors(t, engines[t].compared) for t in ("text", "image"))
        every = [
            self._engine(tower, engine)
            for tower, chosen in engines.items()
            for engine in self._with_fp32(tower, chosen)
        ]
        return Parity(
            OnnxTowers.name,
            compare_vectors(self.corpus.texts, texts),
            compare_vectors(self.corpus.images, images),
            self.metrics,
            retrieval_metrics(images, texts, self.corpus.picture),
            Precisions(engines["text"].precision, engines["image"].precision),
            tuple(every),
        )

    def vectors(self, tower: Tower, path: Path) -> Embeddings:
        """One engine's vectors of all captions, or of all pictures."""
        if path not in self._vectors:
            with Embedder(self._bundle, self._towers(tower, path)) as embedder:
                if tower == "text":
                    self._vectors[path] = embedder.embed_texts(self.captions)
                else:
                    _, self._vectors[path], _ = embed_pictures(embedder, self.corpus.records)
        return self._vectors[path]

    def _towers(self, tower: Tower, path: Path) -> OnnxTowers:
        paths = self._fp32 | {MODEL_OF[tower]: path}
        return self._open(paths[TEXT_MODEL], paths[IMAGE_MODEL], threads=self._threads)

    def _with_fp32(self, tower: Tower, engine: Engine) -> list[Engine]:
        fp32 = Engine("fp32", self._fp32[MODEL_OF[tower]])
        return [fp32] if engine.precision == "fp32" else [fp32, engine]

    def _expected(self, tower: Tower) -> Embeddings:
        return self.corpus.texts if tower == "text" else self.corpus.images

    def _metrics(self, tower: Tower, vectors: Embeddings) -> dict[str, dict[str, float]]:
        texts = vectors if tower == "text" else self.corpus.texts
        images = vectors if tower == "image" else self.corpus.images
        return retrieval_metrics(images, texts, self.corpus.picture)

    def _engine(self, tower: Tower, engine: Engine) -> EngineParity:
        fp32 = self._fp32[MODEL_OF[tower]]
        vectors = self.vectors(tower, engine.compared)
        metrics = self._metrics(tower, vectors)
        compared, encode, baseline = (
            _encoder(self._towers(tower, path), tower)
            for path in (engine.compared, engine.path, fp32)
        )
        return EngineParity(
            tower=tower,
            precision=engine.precision,
            how=engine.how,
            bytes=engine_bytes(engine.path),
            size_ratio=engine_bytes(engine.path) / engine_bytes(fp32),
            vectors=compare_vectors(self._expected(tower), vectors),
            recall={way: {key: metrics[way][key] for key in RECALLS} for way in WAYS},
            shapes=tuple(
                self._shape(tower, bucket, rows, batch, compared, (encode, baseline))
                for bucket, rows in self._probes[tower].items()
                for batch in batch_shapes(rows)
            ),
        )

    def _shape(
        self,
        tower: Tower,
        bucket: int | None,
        rows: npt.NDArray[Any],
        batch: int,
        compared: Encode,
        timed: tuple[Encode, Encode],
    ) -> ShapeParity:
        answered = np.concatenate(
            [compared(rows[start : start + batch]) for start in range(0, len(rows), batch)]
        )
        expected = _encoder(self._torch, tower)(rows)
        figures: TowerParity = compare_vectors(expected, answered)
        taken, base = interleaved(timed, rows[:batch])
        return ShapeParity(bucket, batch, figures, 1e3 * taken, taken / base)


def _encoder(towers: OnnxTowers | TorchTowers, tower: Tower) -> Encode:
    return towers.encode_text if tower == "text" else towers.encode_image


def interleaved(encoders: Sequence[Encode], inputs: npt.NDArray[Any]) -> list[float]:
    """Median seconds of each, run in turns, so that what else the machine does meets all alike."""
    taken: list[list[float]] = [[] for _ in encoders]
    for encode in encoders:
        encode(inputs)
    began = time.perf_counter()
    for number in range(_ROUNDS):
        if number >= 3 and time.perf_counter() - began > _SECONDS:
            break
        for encode, seconds in zip(encoders, taken, strict=True):
            start = time.perf_counter()
            encode(inputs)
            seconds.append(time.perf_counter() - start)
    return [median(seconds) for seconds in taken]
