"""The parity gate: only engines whose vectors match the PyTorch module's are published."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from vireo_client.bundle import ExportSettings, PrecisionGate
from vireo_client.errors import ParityError
from vireo_training.evaluation.metrics import CUTOFFS, WAYS

from ..precision import ALL_FP32, Precision, Precisions
from ..precision.build import Attempt

TOWERS = ("text", "image")
RECALLS = tuple(f"recall_at_{k}" for k in CUTOFFS)


@dataclass(frozen=True, slots=True)
class TowerParity:
    """Difference between one tower's vectors and PyTorch's, over all inputs."""

    compared: int
    """Number of inputs."""
    min_cosine: float
    mean_cosine: float
    max_abs_difference: float


@dataclass(frozen=True, slots=True)
class ShapeParity:
    """Figures of one engine at one input shape."""

    bucket: int | None
    """Length of the rows of ids; None for images."""
    batch: int
    """Number of rows that run at once."""
    vectors: TowerParity
    latency_ms: float
    """Median milliseconds of one batch on the machine that exported."""
    latency_ratio: float
    """Latency divided by the FP32 engine's at the same shape: 0.5 is twice as fast."""


@dataclass(frozen=True, slots=True)
class EngineParity:
    """Figures of one tower's engine in one precision; the other tower runs in PyTorch."""

    tower: str
    precision: Precision
    how: str
    """The way of quantising of an INT8 or INT4 engine, empty for others."""
    bytes: int
    """Size on disk, its data file included."""
    size_ratio: float
    """Size divided by the FP32 engine's."""
    vectors: TowerParity
    recall: dict[str, dict[str, float]]
    """Recall@1, @5 and @10 of each direction."""
    shapes: tuple[ShapeParity, ...]
    tried: tuple[Attempt, ...] = ()
    """The ways of quantising that were tried before this one passed, it included; INT8 and INT4
    only."""

    @property
    def min_cosine(self) -> float:
        """Return the smallest cosine over all inputs and shapes; NaN if any is NaN."""
        return float(
            np.min([self.vectors.min_cosine, *(s.vectors.min_cosine for s in self.shapes)])
        )


@dataclass(frozen=True, slots=True)
class Parity:
    """Figures of both towers, and the retrieval metrics of PyTorch and of the engines."""

    engine: str
    """Name of the towers that were measured, such as "onnx" or "triton"."""
    text: TowerParity
    image: TowerParity
    metrics_reference: dict[str, Any]
    """Retrieval metrics of PyTorch's vectors."""
    metrics_engine: dict[str, Any]
    """Retrieval metrics of the engines' vectors."""
    precisions: Precisions = ALL_FP32
    """Precision of each tower."""
    engines: tuple[EngineParity, ...] = ()
    """Figures of each engine, the FP32 ones included; empty where a server was measured."""

    @property
    def metric_change(self) -> float:
        """Return the largest change, up or down, of any recall or mean reciprocal rank."""
        changes = (
            abs(self.metrics_engine[way][key] - value)
            for way in WAYS
            for key, value in self.metrics_reference[way].items()
            if key.startswith(("recall", "mean_reciprocal"))
        )
        return float(max(changes))

    @property
    def recall_loss(self) -> float:
        """Return the largest loss of recall, see `recall_loss`; negative if all recalls rose."""
        return recall_loss(self.metrics_reference, self.metrics_engine)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `parity.json`."""
        derived = {"metric_change": self.metric_change, "recall_loss": self.recall_loss}
        return asdict(self) | derived


def recall_loss(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return the largest loss among recall@1, recall@5 and recall@10 of both directions.

    The directions are text to image and image to text.
    """
    return float(
        max(before[w][key] - after[w][key] for w in WAYS for key in RECALLS if key in before[w])
    )


def check(parity: Parity, settings: ExportSettings | None = None) -> None:
    """Check the figures against the thresholds of each precision.

    Args:
        parity: the figures.
        settings: the bundle's thresholds.

    Raises:
        ParityError: a vector is too far from PyTorch's, or the retrieval metrics changed.
    """
    settings = settings or ExportSettings()
    for tower in TOWERS:
        figures: TowerParity = getattr(parity, tower)
        precision: Precision = getattr(parity.precisions, tower)
        _check_cosine(f"{parity.engine} {tower} tower", precision, figures, settings)
    for engine in parity.engines:
        for shape in engine.shapes:
            where = f"{engine.tower} tower at " + (
                "images" if shape.bucket is None else f"bucket {shape.bucket}"
            )
            _check_cosine(
                f"{where}, batch {shape.batch}", engine.precision, shape.vectors, settings
            )
    _check_recall(parity, settings)


def _check_cosine(
    engine: str, precision: Precision, figures: TowerParity, settings: ExportSettings
) -> None:
    gate: PrecisionGate = getattr(settings, precision)
    # Written so that NaN fails.
    if not figures.min_cosine >= gate.min_cosine:
        raise ParityError(
            f"{engine}: cosine to PyTorch is {figures.min_cosine:.6f} at worst over "
            f"{figures.compared} inputs; {precision} requires at least {gate.min_cosine}"
        )


def _check_recall(parity: Parity, settings: ExportSettings) -> None:
    allowed = allowed_loss(parity.precisions, parity.metrics_reference, settings)
    if parity.precisions == ALL_FP32:
        if not parity.metric_change <= allowed:
            raise ParityError(
                f"{parity.engine}: a retrieval metric changed by {parity.metric_change:.4f}"
            )
    elif not parity.recall_loss <= allowed:
        raise ParityError(
            f"text tower in {parity.precisions.text}, image tower in {parity.precisions.image}: "
            f"recall falls by {100 * parity.recall_loss:.1f} points, and "
            f"{100 * allowed:.1f} are allowed ({recall_words(parity)}); choose another precision"
        )


def allowed_loss(
    precisions: Precisions, metrics: dict[str, Any], settings: ExportSettings
) -> float:
    """Return the loss of recall that the looser of two precisions allows.

    A loss of one query is always allowed, because no smaller loss can be measured.
    """
    gates: list[PrecisionGate] = [getattr(settings, getattr(precisions, t)) for t in TOWERS]
    one_query = 1 / min(metrics[way]["queries"] for way in WAYS)
    # Fractions of queries are not exact in binary.
    return float(max(*(gate.max_recall_loss for gate in gates), one_query)) + 1e-9


def recall_words(parity: Parity) -> str:
    """Format the recalls of both directions, PyTorch's and the engines', in one line."""
    parts = []
    for way in WAYS:
        before, after = (
            "/".join(f"{metrics[way][key]:.3f}" for key in RECALLS if key in metrics[way])
            for metrics in (parity.metrics_reference, parity.metrics_engine)
        )
        parts.append(f"{way.replace('_', ' ')} recall@1/5/10 {before} -> {after}")
    return ", ".join(parts)
