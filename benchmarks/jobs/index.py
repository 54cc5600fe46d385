"""`index`: kinds of index beside hnswlib, usearch, NumPy and scikit-learn, and saving to one."""

from __future__ import annotations

import importlib.util
from typing import Any

from vireo_client.index.kinds import KINDS

from ..report.document import Report
from ..report.measurement import Measurement, latency
from ..report.plots import recall_plot
from . import scripts
from .run import Run

PEERS = ("hnswlib", "usearch")
QUICK_ROWS = 20_000


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("index")
    kinds(run, report)
    updates(run, report)
    return report


def kinds(run: Run, report: Report) -> None:
    """Run `index.py`, and plot recall against speed."""
    names = [*KINDS]
    for peer in PEERS:
        if importlib.util.find_spec(peer):
            names.append(peer)
        else:
            report.cannot(peer, f"not installed; `pip install {peer}` and measure again")
    words: list[object] = ["--folder", run.work / "index", "--kinds", *names]
    words += ["--rows", QUICK_ROWS if run.quick else run.effort.rows]
    found = scripts.run("index", run.out / "scripts" / "index.json", *words)
    for size, measured in found["sizes"].items():
        _table(run, report, int(size), measured)


def _table(run: Run, report: Report, rows: int, found: dict[str, Any]) -> None:
    prefix = f"index/{rows:,} vectors"
    slow = report.add(f"{prefix}/scikit-learn", _once(found["scikit_learn_ms"], "ms", "lower"))
    points, lines = {}, []
    for name, figures in found["contenders"].items():
        recall = figures["recall@10"]
        report.add(
            f"{prefix}/{name}",
            Measurement("ms", "lower", (figures["p50_ms"],), facts={"recall@10": recall}),
        )
        report.add(f"{prefix}/{name}/recall@10", _once(recall, "share", "higher"))
        points[name] = (1e3 / figures["p50_ms"], recall)
        chosen = " (auto)" if name == found["auto"] else ""
        lines.append([
            f"{name}{chosen}", f"{recall:.4f}", f"{figures['p50_ms']:.3f}",
            f"{figures['p99_ms']:.3f}", f"{slow.value / figures['p50_ms']:.0f}",
            f"{figures['structure_bytes_per_vector']:.0f}", f"{figures['build_s']:.0f}",
        ])  # fmt: skip
    auto = f"{prefix}/{found['auto']}"
    for name in ("scikit-learn", "flat", *PEERS):
        if f"{prefix}/{name}" in report.measurements and f"{prefix}/{name}" != auto:
            what = f"search, {rows:,} vectors: {name}'s time over ours"
            report.ratio(what, f"{prefix}/{name}", auto)
    head = ["kind", "recall@10", "p50, ms", "p99", "times sklearn", "bytes/vector", "build, s"]
    report.table(f"One query, {rows:,} vectors of 512, one thread", head, lines)
    title = f"Recall against speed, {rows:,} vectors"
    report.plot(title, recall_plot(points, title, run.out / f"index-{rows}.svg"))


def updates(run: Run, report: Report) -> None:
    """Run `index_updates.py`: images added to a large index, and saved."""
    vectors = 50_000 if run.quick else 1_000_000
    output = run.out / "scripts" / "index_updates.json"
    words = ("--vectors", vectors, "--rounds", 3 if run.quick else 10)
    found = scripts.run("index_updates", output, *words, "--folder", run.work)
    # Turns differ by what is merged: they are samples of one repeat.
    saves = [turn["save_seconds"] for turn in found["rounds"]]
    measured = report.add(f"index/save 1,000 images into {vectors:,}", latency([saves]))
    report.note(
        f"1,000 images into an index of {vectors:,}: {measured.value:.0f} ms a save, at most "
        f"{measured.samples['max']:.0f} ms where segments merge."
    )


def _once(value: float, unit: str, better: Any) -> Measurement:
    return Measurement(unit, better, (value,))
