"""The gate: nothing is exported that does not answer as the PyTorch module does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.errors import ParityError
from vireo_training.evaluate import CorpusEmbeddings, embed_corpus
from vireo_training.metrics import retrieval_metrics

MIN_COSINE = 0.9999
MAX_METRIC_CHANGE = 0.001
"""FP32 engines keep the metrics; a tie to the seventh digit may still swap two ranks."""

_WAYS = ("text_to_image", "image_to_text")


@dataclass(frozen=True, slots=True)
class TowerParity:
    """How far one tower's vectors are from PyTorch's, over all compared inputs."""

    compared: int
    min_cosine: float
    mean_cosine: float
    max_abs_difference: float


@dataclass(frozen=True, slots=True)
class Parity:
    """Both towers, and the retrieval metrics before and after."""

    engine: str
    text: TowerParity
    image: TowerParity
    metrics_reference: dict[str, Any]
    metrics_engine: dict[str, Any]

    @property
    def metric_change(self) -> float:
        """Largest change of any recall or mean reciprocal rank, in either direction."""
        changes = (
            abs(self.metrics_engine[way][key] - value)
            for way in _WAYS
            for key, value in self.metrics_reference[way].items()
            if key.startswith(("recall", "mean_reciprocal"))
        )
        return float(max(changes))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"metric_change": self.metric_change}


def compare(
    reference: CorpusEmbeddings, engine: Embedder, records: Sequence[CaptionedImage]
) -> Parity:
    """Embeds `records` with `engine` and compares with the reference's vectors of the same."""
    answered = embed_corpus(engine, records)
    return Parity(
        engine.towers.name,
        _tower(reference.texts, answered.texts),
        _tower(reference.images, answered.images),
        retrieval_metrics(reference.images, reference.texts, reference.picture),
        retrieval_metrics(answered.images, answered.texts, answered.picture),
    )


def _tower(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> TowerParity:
    x, y = a.astype(np.float64), b.astype(np.float64)
    cosine = (x * y).sum(1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
    return TowerParity(len(a), float(cosine.min()), float(cosine.mean()), float(abs(x - y).max()))


def check(parity: Parity, *, min_cosine: float = MIN_COSINE) -> None:
    """Passes the gate or raises.

    Raises:
        ParityError: a vector is too far from PyTorch's, or the retrieval metrics changed.
    """
    for tower in ("text", "image"):
        figures: TowerParity = getattr(parity, tower)
        # Written so that NaN fails.
        if not figures.min_cosine >= min_cosine:
            raise ParityError(
                f"{parity.engine} {tower} tower: cosine to PyTorch is {figures.min_cosine:.6f} at "
                f"worst over {figures.compared} inputs; at least {min_cosine} is asked"
            )
    one_query = 1 / min(parity.metrics_reference[w]["queries"] for w in _WAYS)
    if not parity.metric_change <= max(MAX_METRIC_CHANGE, one_query):
        raise ParityError(
            f"{parity.engine}: a retrieval metric changed by {parity.metric_change:.4f}"
        )
