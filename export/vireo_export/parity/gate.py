"""The gate: nothing is exported that does not answer as the PyTorch module does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from vireo_client.bundle import ExportSettings, PrecisionGate
from vireo_client.errors import ParityError
from vireo_training.evaluation.metrics import CUTOFFS, WAYS

from ..precision import ALL_FP32, Precision, Precisions

TOWERS = ("text", "image")
RECALLS = tuple(f"recall_at_{k}" for k in CUTOFFS)


@dataclass(frozen=True, slots=True)
class TowerParity:
    """How far one tower's vectors are from PyTorch's, over all compared inputs."""

    compared: int
    min_cosine: float
    mean_cosine: float
    max_abs_difference: float


@dataclass(frozen=True, slots=True)
class ShapeParity:
    """One engine at one shape of input."""

    bucket: int | None
    """Length of the ids; None for pictures."""
    batch: int
    vectors: TowerParity
    latency_ms: float
    """Median, on the machine that exported."""
    latency_ratio: float
    """To the FP32 engine's at the same shape, run in turns: 0.5 is twice as fast."""


@dataclass(frozen=True, slots=True)
class EngineParity:
    """One tower's engine of one precision beside PyTorch, the other tower being PyTorch's."""

    tower: str
    precision: Precision
    how: str
    """How an INT8 engine was quantised."""
    bytes: int
    size_ratio: float
    """To the FP32 engine's."""
    vectors: TowerParity
    recall: dict[str, dict[str, float]]
    """Recall@1, @5 and @10 by way."""
    shapes: tuple[ShapeParity, ...]

    @property
    def min_cosine(self) -> float:
        """The worst of all inputs and shapes; NaN if any is."""
        return float(
            np.min([self.vectors.min_cosine, *(s.vectors.min_cosine for s in self.shapes)])
        )


@dataclass(frozen=True, slots=True)
class Parity:
    """Both towers, and the retrieval metrics before and after."""

    engine: str
    text: TowerParity
    image: TowerParity
    metrics_reference: dict[str, Any]
    metrics_engine: dict[str, Any]
    precisions: Precisions = ALL_FP32
    """Of the towers that were compared."""
    engines: tuple[EngineParity, ...] = ()
    """Each engine that was made, the FP32 ones among them; empty where a server was compared."""

    @property
    def metric_change(self) -> float:
        """Largest change of any recall or mean reciprocal rank, in either direction."""
        changes = (
            abs(self.metrics_engine[way][key] - value)
            for way in WAYS
            for key, value in self.metrics_reference[way].items()
            if key.startswith(("recall", "mean_reciprocal"))
        )
        return float(max(changes))

    @property
    def recall_loss(self) -> float:
        """Largest loss of recall@1, @5 or @10 either way; negative where all rose."""
        return recall_loss(self.metrics_reference, self.metrics_engine)

    def as_dict(self) -> dict[str, Any]:
        """What `parity.json` holds."""
        derived = {"metric_change": self.metric_change, "recall_loss": self.recall_loss}
        return asdict(self) | derived


def recall_loss(before: dict[str, Any], after: dict[str, Any]) -> float:
    """The largest loss of recall@1, @5 or @10, either way."""
    return float(
        max(before[w][key] - after[w][key] for w in WAYS for key in RECALLS if key in before[w])
    )


def check(parity: Parity, settings: ExportSettings | None = None) -> None:
    """Passes the gate or raises.

    Args:
        parity: the figures.
        settings: what each precision is held to; the bundle's.

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
                "pictures" if shape.bucket is None else f"bucket {shape.bucket}"
            )
            _check_cosine(
                f"{where}, batch {shape.batch}", engine.precision, shape.vectors, settings
            )
    _check_recall(parity, settings)


def _check_cosine(
    what: str, precision: Precision, figures: TowerParity, settings: ExportSettings
) -> None:
    gate: PrecisionGate = getattr(settings, precision)
    # Written so that NaN fails.
    if not figures.min_cosine >= gate.min_cosine:
        raise ParityError(
            f"{what}: cosine to PyTorch is {figures.min_cosine:.6f} at worst over "
            f"{figures.compared} inputs; at least {gate.min_cosine} is asked of {precision}"
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
    """The loss of recall that a pair of precisions may have: that of the looser one.

    One query less is always allowed: fewer cannot be measured.
    """
    gates: list[PrecisionGate] = [getattr(settings, getattr(precisions, t)) for t in TOWERS]
    one_query = 1 / min(metrics[way]["queries"] for way in WAYS)
    # Fractions of queries are not exact in binary.
    return float(max(*(gate.max_recall_loss for gate in gates), one_query)) + 1e-9


def recall_words(parity: Parity) -> str:
    """Both directions' recalls before and after, in one line."""
    parts = []
    for way in WAYS:
        before, after = (
            "/".join(f"{metrics[way][key]:.3f}" for key in RECALLS if key in metrics[way])
            for metrics in (parity.metrics_reference, parity.metrics_engine)
        )
        parts.append(f"{way.replace('_', ' ')} recall@1/5/10 {before} -> {after}")
    return ", ".join(parts)
