"""Towers of the sizes that people run, in process: one row, and batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from vireo_client.bundle import Bundle

from ..contenders.ours import Rows, Tower
from ..contenders.turns import in_turns
from ..load.clients import Target
from ..models import build
from ..models.sizes import pair as pair_of
from ..report.document import Report
from ..report.markdown import latency_cells
from ..report.measurement import latency
from .run import Run

BUCKETS = (16, 32)


@dataclass(frozen=True)
class Input:
    """One tower with one kind of input."""

    name: str
    folder: build.Built
    tower: str
    rows: Rows = ()
    size: int = 0

    def engine(self, precision: str) -> Path:
        """Return the ONNX file of a precision."""
        return self.folder.engine(self.tower, precision)

    def contender(self, precision: str, batch: int = 1, *, plain: bool = False) -> Tower:
        """Return the tower as a contender."""
        return Tower(self.engine(precision), self.rows, self.size, batch, plain)


def inputs(run: Run) -> Iterator[Input]:
    """Yield all towers of the run: texts of the usual buckets, images of the tower's own size."""
    for name in run.effort.pairs:
        pair = pair_of(name)
        built = build.build(pair, run.work)
        config = Bundle(built.bundle).config
        if pair.text:
            for bucket in BUCKETS:
                ids = np.random.default_rng(0).integers(5, config.text.vocab_size, (64, bucket))
                rows = tuple(tuple(int(i) for i in row) for row in ids)
                yield Input(f"{pair.text}, {bucket} tokens", built, "text", rows)
        if pair.image:
            yield Input(
                f"{pair.image}, {config.image.size} px", built, "image", size=config.image.size
            )


def latency_of_towers(run: Run, report: Report) -> list[tuple[Input, str, float]]:
    """Measure one row at a time: our engine in FP32 and INT8, and a plain session.

    Returns:
        Tower, precision and median seconds of each row of our engine.
    """
    rows, medians = [], []
    for tower in inputs(run):
        contenders: dict[str, Target] = {
            build.FP32: tower.contender(build.FP32),
            build.INT8: tower.contender(build.INT8),
            "int8, plain session": tower.contender(build.INT8, plain=True),
        }
        prefix = f"tower/{tower.name}"
        for name, found in in_turns(contenders, run.plan).items():
            measured = report.add(f"{prefix}/{name}", latency(found.rounds))
            rows.append([tower.name, name, *latency_cells(measured.samples)])
            if name in (build.FP32, build.INT8):
                medians.append((tower, name, measured.value / 1e3))
        what = f"tower, {tower.name}: fp32's time over int8's"
        report.ratio(what, f"{prefix}/{build.FP32}", f"{prefix}/{build.INT8}")
    report.table("Bare towers, one row", ["tower", "", "p50, ms", "p95", "p99"], rows)
    return medians
