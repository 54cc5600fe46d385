"""One tower's engines: FP32 always, and the one that is asked for."""

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
    """What the validation pictures say of an engine."""

    passes: bool
    """Whether it would get through the gate."""
    recall: float
    """The mean of recall@1, @5 and @10, both ways."""
    min_cosine: float


@dataclass(frozen=True, slots=True)
class Engine:
    """A tower in one precision."""

    precision: Precision
    path: Path
    how: str = ""
    """Of an INT8 engine: which way of quantising it was chosen."""
    rounding: Path | None = None
    """Of an FP16 engine: what to compare in its place on a CPU, see `with_rounding`."""

    @property
    def compared(self) -> Path:
        """What to compare with PyTorch."""
        return self.rounding or self.path


def build_engine(
    precision: Precision,
    model: str,
    fp32: Path,
    folder: Path,
    calibration: Calibration | None,
    judge: Callable[[Path], EngineQuality],
    *,
    limit: int = EXTERNAL_DATA_LIMIT,
) -> Engine:
    """Makes one tower's engine.

    Args:
        precision: what is asked for.
        model: the tower's model name.
        fp32: its FP32 engine, optimised for the target.
        folder: where new engines go.
        calibration: real inputs; FP32 needs none.
        judge: embeds the validation pictures or captions with an INT8 engine; while none passes,
            other ways of quantising are tried.
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
    judged: list[tuple[EngineQuality, Candidate]] = []
    for made in candidates(model, fp32, folder / "int8", calibration, limit=limit):
        judged += [(judge(candidate.path), candidate) for candidate in made]
        if any(verdict.passes for verdict, _ in judged):
            break
    # Those that pass before those that do not; then by recall, then by cosine.
    _, best = max(judged, key=lambda v: (v[0].passes, v[0].recall, v[0].min_cosine))
    return Engine(precision, best.path, best.how)
