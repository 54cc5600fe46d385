"""Plots of a report, as SVG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "vireo"  # the same plot is the same file
mpl.rcParams["svg.fonttype"] = "none"  # text as text: small files
import matplotlib.pyplot as plt  # noqa: E402

SIZE = (7.0, 4.0)


def percentile_plot(lines: Mapping[str, Mapping[str, float]], title: str, file: Path) -> Path:
    """Plot latency by percentile, a line for each load.

    Args:
        lines: summaries in milliseconds, as `summarise` returns them, by name.
        title: the plot's title.
        file: the file to write.
    """
    figure, axes = plt.subplots(figsize=SIZE)
    keys = ("p50", "p90", "p95", "p99", "max")
    for name, samples in lines.items():
        axes.plot(keys, [samples[key] for key in keys], marker="o", label=name)
    axes.set(title=title, ylabel="milliseconds", yscale="log")
    return _save(figure, axes, file)


def throughput_plot(
    rates: Mapping[str, Sequence[tuple[float, float]]],
    batches: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    file: Path,
) -> Path:
    """Plot throughput by concurrency, with the server's batch size beside it.

    Args:
        rates: (clients, answers a second) by name.
        batches: (clients, mean batch size) by name.
        title: the plot's title.
        file: the file to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.0))
    for axes, lines, label in ((left, rates, "answers a second"), (right, batches, "batch size")):
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(xlabel="clients", ylabel=label, xscale="log")
        axes.set_ylim(bottom=0)
    left.set_title(title)
    return _save(figure, left, file)


def stage_plot(bars: Mapping[str, Mapping[str, float]], title: str, file: Path) -> Path:
    """Plot a stage breakdown as stacked bars.

    Args:
        bars: milliseconds of each stage by the bar's name, in the order of the stack.
        title: the plot's title.
        file: the file to write.
    """
    figure, axes = plt.subplots(figsize=(SIZE[0], 1.2 + 0.5 * len(bars)))
    stages = list(dict.fromkeys(stage for bar in bars.values() for stage in bar))
    ends = [0.0] * len(bars)
    for stage in stages:
        lengths = [bar.get(stage, 0.0) for bar in bars.values()]
        axes.barh(list(bars), lengths, left=ends, label=stage)
        ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    axes.invert_yaxis()
    axes.set(title=title, xlabel="milliseconds")
    return _save(figure, axes, file)


def recall_plot(points: Mapping[str, tuple[float, float]], title: str, file: Path) -> Path:
    """Plot recall against speed, a point for each index.

    Args:
        points: (queries a second, recall@10) by name.
        title: the plot's title.
        file: the file to write.
    """
    figure, axes = plt.subplots(figsize=SIZE)
    for name, (speed, recall) in points.items():
        axes.scatter(speed, recall, label=name)
        axes.annotate(name, (speed, recall), textcoords="offset points", xytext=(5, 4))
    axes.set(
        title=title, xlabel="queries a second, one at a time", ylabel="recall@10", xscale="log"
    )
    return _save(figure, axes, file, legend=False)


def _save(figure: Any, axes: Any, file: Path, *, legend: bool = True) -> Path:
    if legend:
        axes.legend(fontsize="small")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return file
