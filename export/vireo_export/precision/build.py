"""One tower's engine in the chosen precision, made from its FP32 engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..onnx.external_data import EXTERNAL_DATA_LIMIT
from .calibration import Calibration, largest_values
from .choice import Precision
from .fp16 import to_fp16
from .int8 import Candidate, candidates
from .rounding import with_rounding


@dataclass(frozen=True, slots=True)
class EngineQuality:
    """An engine's figures on the validation images."""

    passes: bool
    """Whether it would pass the gate."""
    recall: float
    """The mean of recall@1, @5 and @10, in both directions."""
    min_cosine: float


@dataclass(frozen=True, slots=True)
class Engine:
    """A tower in one precision."""

    precision: Precision
    path: Path
    how: str = ""
    """The chosen way of quantising; INT8 engines only."""
    rounding: Path | None = None
    """The file that is compared in its place on a CPU, see `with_rounding`; FP16 engines only."""

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
        measure: runs an INT8 engine on the validation images or captions; while none passes, other
            ways of quantising are tried.
        limit: see `save_engine`.
    """
    if precision == "fp32":
        return Engine(precision, fp32)
    assert calibration is not None
    if precision == "fp16":
        largest = largest_values(fp32, calibration.batches[model])
        engine = to_fp16(fp32, folder / "fp16" / fp32.name, largest, limit=limit)
        rounding = with_rounding(engine, folder / "rounding" / fp32.name, limit=limit)
        return Engine(precision, engine, rounding=rounding)
    measured: list[tuple[EngineQuality, Candidate]] = []
    for several in candidates(model, fp32, folder / "int8", calibration, limit=limit):
        measured += [(measure(candidate.path), candidate) for candidate in several]
        if any(quality.passes for quality, _ in measured):
            break
    # Those that pass before those that do not; then by recall, then by cosine.
    _, best = max(measured, key=lambda m: (m[0].passes, m[0].recall, m[0].min_cosine))
    return Engine(precision, best.path, best.how)
