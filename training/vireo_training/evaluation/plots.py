"""The plots of a report. matplotlib is optional: it is imported when a plot is drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client.errors import MissingExtraError

from .metrics import CUTOFFS, WAYS
from .report_tables import TITLES

_STYLES = {
    "model": ("model", "C0", "-"),
    "without_diacritics": ("without diacritics", "C1", "--"),
    "bag_of_words": ("bag of words", "C2", "-."),
    "chance": ("chance", "gray", ":"),
}
_LABEL_LETTERS = 48


def need_matplotlib() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "train") from None


def _figure(width: float, height: float) -> Any:
    need_matplotlib()
    # Not pyplot: it keeps state, and looks for a screen.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=120, format="png")


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a run's `history.jsonl` that are epochs; a cut-off last line is ignored."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    epochs = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("epoch"), (int, float)):
            epochs.append(record)
    return epochs


def plot_training(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw losses, and recall@k of the validation images, by epoch.

    Args:
        history: as `read_history` gives it.
        path: a PNG file.
    """
    figure = _figure(9, 3.6)
    loss_axes, recall_axes = figure.subplots(1, 2)
    for key in sorted({key for line in history for key in line if "loss" in key}):
        _line(loss_axes, history, [line.get(key) for line in history], key.replace("_", " "))
    for way, style in zip(WAYS, ("-", "--"), strict=True):
        for number, k in enumerate(CUTOFFS):
            values = [
                figures.get(f"recall_at_{k}")
                if isinstance(figures := line.get(way), dict)
                else None
                for line in history
            ]
            label = f"{TITLES[way].lower()}, recall@{k}"
            _line(recall_axes, history, values, label, color=f"C{number}", linestyle=style)
    loss_axes.set(title="Loss", xlabel="epoch")
    recall_axes.set(title="Validation", xlabel="epoch", ylim=(0, 1))
    for axes in (loss_axes, recall_axes):
        axes.locator_params(axis="x", integer=True)
        if axes.lines:
            axes.legend(fontsize=7)
    _save(figure, path)


def _line(
    axes: Any, history: Sequence[dict[str, Any]], values: Sequence[Any], label: str, **style: str
) -> None:
    points = [
        (line["epoch"], value)
        for line, value in zip(history, values, strict=True)
        if isinstance(value, (int, float))
    ]
    if points:
        # One epoch is a point, not a line.
        axes.plot(*zip(*points, strict=True), label=label, marker="." , **style)  # fmt: skip


def plot_recall_curves(report: dict[str, Any], path: Path) -> None:
    """Draw recall@k over k, both ways, beside chance."""
    figure = _figure(9, 3.8)
    for axes, way in zip(figure.subplots(1, 2), WAYS, strict=True):
        for name, (label, colour, line) in _STYLES.items():
            if curves := report["recall_curves"].get(name):
                curve = curves[way]
                ks = range(1, len(curve) + 1)
                axes.plot(ks, curve, label=label, color=colour, linestyle=line)
        axes.set(title=TITLES[way], xlabel="k", ylabel="recall@k", ylim=(0, 1.02), xscale="log")
        axes.legend(fontsize=8)
    _save(figure, path)


def plot_similarity(
    scores: npt.NDArray[np.float32], captions: Sequence[str], names: Sequence[str], path: Path
) -> None:
    """Draw cosines FP32 `[T, N]` of captions and their images; right pairs on the diagonal."""
    figure = _figure(4.5 + 0.3 * len(names), 1.8 + 0.3 * len(captions))
    axes = figure.subplots()
    drawn = axes.imshow(scores, cmap="viridis", aspect="auto")
    figure.colorbar(drawn, label="cosine")
    # A dollar sign would start a formula.
    axes.set_xticks(range(len(names)), [_label(name, 24) for name in names], rotation=90, size=7)
    axes.set_yticks(range(len(captions)), [_label(c, _LABEL_LETTERS) for c in captions], size=7)
    axes.set_title("Captions against images (right pairs on the diagonal)", size=9)
    _save(figure, path)


def _label(text: str, letters: int) -> str:
    short = text if len(text) <= letters else text[: letters - 1] + "…"
    return short.replace("$", r"\$")


def plot_comparison(reports: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw recall@k of every run with its interval, both ways, and chance as a line."""
    figure = _figure(10, 4)
    width = 0.8 / len(reports)
    for axes, way in zip(figure.subplots(1, 2, sharey=True), WAYS, strict=True):
        for number, (name, report) in enumerate(reports.items()):
            at = np.arange(len(CUTOFFS)) + (number - (len(reports) - 1) / 2) * width
            keys = [f"recall_at_{k}" for k in CUTOFFS]
            values = np.array([report[way][key] for key in keys])
            bounds = np.array([report["intervals"][way][key] for key in keys]).T
            # A mean may lie outside of its percentile interval by a hair.
            errors = np.maximum([values - bounds[0], bounds[1] - values], 0)
            axes.bar(at, values, width, yerr=errors, capsize=2, label=_label(name, _LABEL_LETTERS))
            levels = [report[f"chance_{way}"][key] for key in keys]
            axes.hlines(levels, at - width / 2, at + width / 2, color="black", linestyle=":")
        axes.set_xticks(range(len(CUTOFFS)), [f"recall@{k}" for k in CUTOFFS])
        axes.set(title=TITLES[way], ylim=(0, 1.02))
    axes.legend(fontsize=8, title="dotted: chance", title_fontsize=8)
    _save(figure, path)
