"""One tower's engine in the chosen precision, made from its FP32 engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vireo_client.errors import EngineError, ParityError

from ..onnx.external_data import EXTERNAL_DATA_LIMIT, engine_bytes
from .calibration import Calibration, largest_values
from .candidates import candidates
from .choice import Precision
from .fp16 import to_fp16
from .ladder import Candidate
from .rounding import with_rounding


@dataclass(frozen=True, slots=True)
class EngineQuality:
    """An engine's figures on the validation images."""

    passes: bool
    """Whether it would pass the gate."""
    recall: float | None
    """The mean of recall@1, @5 and @10, in both directions; None if a first look was enough to
    refuse the engine."""
    min_cosine: float
    inputs: int = 0
    """How many captions or images were embedded."""
    latency_ms: float | None = None
    """The median of one row: a short text, or an image."""
    required: float | None = None
    """The smallest cosine that passes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A way of quantising that was tried."""

    how: str
    bytes: int
    """The size of the engine on disk."""
    quality: EngineQuality | None
    """None if ONNX Runtime does not run the engine."""
    reason: str = ""
    """Why it was left; empty for an engine that passes."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A tower in one precision."""

    precision: Precision
    path: Path
    how: str = ""
    """The chosen way of quantising; INT8 and INT4 engines only."""
    rounding: Path | None = None
    """The file that is compared in its place on a CPU, see `with_rounding`; FP16 engines only."""
    tried: tuple[Attempt, ...] = ()
    """The ways of quantising that were tried, the chosen one included."""

    @property
    def compared(self) -> Path:
        """The file to compare with PyTorch."""
        return self.rounding or self.path


def build_engine(
    precision: Precision,
    model: str,
    fp32: Path,
    folder: Path,
    calibration: Calibration | None,
    measure: Callable[[Path], EngineQuality],
    *,
    limit: int = EXTERNAL_DATA_LIMIT,
) -> Engine:
    """Make one tower's engine.

    Args:
        precision: the precision of the engine.
        model: the tower's model name.
        fp32: its FP32 engine, optimised for the target.
        folder: the folder of new engines.
        calibration: real inputs; FP32 needs none.
        measure: runs a quantised engine on the validation images or captions; while none passes,
            other ways of quantising are tried.
        limit: see `save_engine`.

    Raises:
        ParityError: no way of quantising gives an engine that passes; each is named, with what
            it loses.
    """
    if precision == "fp32":
        return Engine(precision, fp32)
    assert calibration is not None
    if precision == "fp16":
        largest = largest_values(fp32, calibration.batches[model])
        engine = to_fp16(fp32, folder / "fp16" / fp32.name, largest, limit=limit)
        rounding = with_rounding(engine, folder / "rounding" / fp32.name, limit=limit)
        return Engine(precision, engine, rounding=rounding)
    tried: list[tuple[Attempt, Candidate]] = []
    for several in candidates(model, fp32, folder / precision, calibration, precision, limit=limit):
        tried += [(_try(candidate, measure), candidate) for candidate in several]
        passed = [(a.quality, c) for a, c in tried if a.quality is not None and a.quality.passes]
        if passed:
            _, best = max(passed, key=lambda one: (one[0].recall or 0, one[0].min_cosine))
            return Engine(
                precision, best.path, best.how, tried=tuple(attempt for attempt, _ in tried)
            )
    raise ParityError(
        f"{model}: no {precision.upper()} engine answers as PyTorch does; nothing was published. "
        "Tried: "
        + "; ".join(f"{attempt.how} ({attempt.reason})" for attempt, _ in tried)
        + ". Choose fp16 or fp32 for this tower"
    )


def _try(candidate: Candidate, measure: Callable[[Path], EngineQuality]) -> Attempt:
    size = engine_bytes(candidate.path)
    try:
        quality = measure(candidate.path)
    except EngineError as error:  # an operator that this ONNX Runtime lacks, say
        return Attempt(candidate.how, size, None, f"does not run here: {error}")
    if quality.passes:
        return Attempt(candidate.how, size, quality)
    reason = f"cosine {quality.min_cosine:.4f} at worst over {quality.inputs} inputs"
    if quality.required is not None:
        reason += f", {quality.required} is required"
    if quality.recall is not None:
        reason += f", mean recall {quality.recall:.4f}"
    return Attempt(candidate.how, size, quality, reason)
