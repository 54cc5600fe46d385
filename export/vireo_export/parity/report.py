"""Write the parity figures as JSON, as a Markdown table and as a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vireo_client.bundle import ExportSettings
from vireo_client.repository import PARITY_FILE as PARITY_FILE
from vireo_training.evaluation.metrics import WAYS
from vireo_training.evaluation.plots import need_matplotlib
from vireo_training.evaluation.report_tables import markdown_table

from .gate import RECALLS, TOWERS, EngineParity, Parity

TABLE_FILE = "parity.md"
PLOT_FILE = "parity.png"
_COLOURS = {"fp32": "C7", "fp16": "C0", "int8": "C1", "int4": "C2"}


def write_report(parity: Parity, folder: Path, settings: ExportSettings) -> None:
    """Write `parity.json`, `parity.md` and `parity.png` into `folder`."""
    figures = {**parity.as_dict(), "settings": settings.model_dump()}
    (folder / PARITY_FILE).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / TABLE_FILE).write_text(as_markdown(parity, settings), encoding="utf-8")
    plot(parity, folder / PLOT_FILE, settings)


def as_markdown(parity: Parity, settings: ExportSettings) -> str:
    """Format the figures as Markdown tables."""
    lines = [
        "# Parity with PyTorch",
        "",
        f"Published: text tower in {parity.precisions.text}, image tower in "
        f"{parity.precisions.image}; {parity.image.compared} images, {parity.text.compared} "
        "captions. Latency ratios are to the FP32 engine on the machine that exported; below 1 is "
        "faster.",
        "",
        markdown_table(("recall", "", "@1", "@5", "@10"), _recall_rows(parity)),
        "",
        markdown_table(
            ("tower", "precision", "size", "of FP32", "min cosine", "required", "how"),
            (_size_row(engine, settings) for engine in parity.engines),
        ),
        "",
        markdown_table(
            ("tower", "precision", "bucket", "batch", "min cosine", "mean cosine",
             "largest difference", "latency", "of FP32"),
            (row for engine in parity.engines for row in _shape_rows(engine)),
        ),
        "",
    ]  # fmt: skip
    tried = [row for engine in parity.engines for row in _tried_rows(engine)]
    if tried:
        head = ("tower", "tried", "size", "min cosine", "mean recall", "one row", "result")
        lines += [
            "Quantisation, in the order in which it was tried:",
            "",
            markdown_table(head, tried),
            "",
        ]
    return "\n".join(lines)


def _recall_rows(parity: Parity) -> Iterator[tuple[str, ...]]:
    for way in WAYS:
        named: list[tuple[str, Any]] = [("PyTorch", parity.metrics_reference[way])]
        named += [
            (f"{engine.tower} in {engine.precision}", engine.recall[way])
            for engine in parity.engines
            if engine.precision != "fp32"
        ]
        named.append(("published", parity.metrics_engine[way]))
        for name, figures in named:
            yield (way.replace("_", " "), name, *(f"{figures[key]:.4f}" for key in RECALLS))


def _size_row(engine: EngineParity, settings: ExportSettings) -> tuple[str, ...]:
    return (
        engine.tower,
        engine.precision,
        f"{engine.bytes / 1e6:.1f} MB",
        f"{engine.size_ratio:.3f}",
        f"{engine.min_cosine:.6f}",
        f"{getattr(settings, engine.precision).min_cosine}",
        engine.how or "-",
    )


def _shape_rows(engine: EngineParity) -> Iterator[tuple[str, ...]]:
    for shape in engine.shapes:
        yield (
            engine.tower,
            engine.precision,
            "image" if shape.bucket is None else str(shape.bucket),
            str(shape.batch),
            f"{shape.vectors.min_cosine:.6f}",
            f"{shape.vectors.mean_cosine:.6f}",
            f"{shape.vectors.max_abs_difference:.1e}",
            f"{shape.latency_ms:.2f} ms",
            f"{shape.latency_ratio:.2f}",
        )


def _tried_rows(engine: EngineParity) -> Iterator[tuple[str, ...]]:
    for attempt in engine.tried:
        figures = ["-", "-", "-"]
        if (quality := attempt.quality) is not None:
            recall, latency = quality.recall, quality.latency_ms
            figures = [
                f"{quality.min_cosine:.6f}",
                "-" if recall is None else f"{recall:.4f}",
                "-" if latency is None else f"{latency:.2f} ms",
            ]
        result = attempt.reason or ("published" if attempt.how == engine.how else "passes")
        yield engine.tower, attempt.how, f"{attempt.bytes / 1e6:.1f} MB", *figures, result


def plot(parity: Parity, path: Path, settings: ExportSettings) -> None:
    """Draw, for each tower, its engines' distances from PyTorch and their latencies.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    need_matplotlib()
    # pyplot keeps state and looks for a screen; `Figure` does neither.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), layout="constrained")
    for column, tower in zip(figure.subplots(2, 2).T, TOWERS, strict=True):
        engines = [engine for engine in parity.engines if engine.tower == tower]
        for number, engine in enumerate(engines):
            labels = [_label(shape.bucket, shape.batch) for shape in engine.shapes]
            at = [i + (number - (len(engines) - 1) / 2) * 0.35 for i in range(len(labels))]
            style = {"color": _COLOURS[engine.precision], "label": engine.precision}
            # A log scale has no place for an engine without any difference.
            distance = [max(1 - s.vectors.min_cosine, 1e-9) for s in engine.shapes]
            column[0].bar(at, distance, 0.33, **style)
            column[1].bar(at, [s.latency_ratio for s in engine.shapes], 0.33, **style)
            limit = 1 - getattr(settings, engine.precision).min_cosine
            column[0].axhline(limit, color=style["color"], linestyle=":")
            for axes in column:
                axes.set_xticks(range(len(labels)), labels, size=7)
        column[0].set(title=f"{tower} tower: 1 - worst cosine (dotted: allowed)", yscale="log")
        column[1].set(title=f"{tower} tower: latency, FP32 = 1")
        column[1].axhline(1, color="black", linestyle=":")
        column[0].legend(fontsize=8)
    figure.savefig(path, dpi=120, format="png")


def _label(bucket: int | None, batch: int) -> str:
    return f"{'image' if bucket is None else bucket}\nx {batch}"
