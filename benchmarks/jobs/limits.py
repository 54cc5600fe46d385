"""The share of what the machine allows that each tower reaches."""

from __future__ import annotations

from ..host.limits import Limits, measure_limits
from ..models.operations import work_of
from ..report.document import Report
from ..report.measurement import Measurement, rounded
from .run import Run
from .towers import Input


def limits_of(run: Run, report: Report) -> Limits:
    """Measure the machine's limits and put them into the report."""
    limits = measure_limits(0.5 if run.quick else 2.0)
    rows = []
    for name, value, unit, what in (
        ("memory bandwidth", limits.bytes_a_second / 1e9, "GB/s", "reading, all cores"),
        ("matrix throughput, fp32", limits.fp32 / 1e9, "Gop/s", "the fastest of three libraries"),
        ("matrix throughput, int8", limits.int8 / 1e9, "Gop/s", "the fastest of two libraries"),
    ):
        report.add(f"limit/{name}", Measurement(unit, "higher", (rounded(value),)))
        rows.append([name, f"{value:.1f} {unit}", what])
    report.table("What this machine can do at most, measured", ["", "", ""], rows)
    return limits


def share_row(
    limits: Limits, tower: Input, precision: str, seconds: float, batch: int
) -> list[str]:
    """Return a row of the table of shares: a tower's work, its limit, and the share reached."""
    length = len(tower.rows[0]) if tower.rows else 0
    work = work_of(tower.folder.bundle, tower.tower, length)
    least = limits.least_seconds(work.operations * batch, work.weights, precision)
    return [
        tower.name, precision, str(batch), f"{work.operations * batch / 1e9:.2f}",
        f"{work.weights / 1e6:.1f}", f"{least * 1e3:.2f}", f"{seconds * 1e3:.2f}",
        f"{least / seconds:.0%}",
    ]  # fmt: skip


SHARE_HEAD = [
    "tower", "", "batch", "operations, G", "weights, M", "limit, ms", "measured, ms", "share",
]  # fmt: skip
