"""Reports as Markdown: one, or several side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .metrics import CUTOFFS, WAYS


def figure_names(at: Iterable[int] = CUTOFFS) -> dict[str, str]:
    """Return the titles of a report's figures by their names, for cut-offs `at`."""
    ks = tuple(at)
    return {
        **{f"recall_at_{k}": f"recall@{k}" for k in ks},
        **{f"top_{k}_accuracy": f"top-{k} accuracy" for k in ks},
        **{f"top_{k}_error": f"top-{k} error" for k in ks},
        **{f"share_found_at_{k}": f"share found@{k}" for k in ks},
        "mean_average_precision": "mAP",
        **{f"mean_average_precision_at_{k}": f"mAP@{k}" for k in ks if k > 1},
        "mean_reciprocal_rank": "mean reciprocal rank",
        "median_rank": "median rank",
        "mean_rank": "mean rank",
    }


COMPARED = ("recall_at_1", "recall_at_5", "recall_at_10", "mean_average_precision_at_10",
            "mean_reciprocal_rank", "median_rank")  # fmt: skip
TITLES = {"text_to_image": "Text to image", "image_to_text": "Image to text"}


def number(figure: str, value: float) -> str:
    """Format a figure: ranks with one digit, fractions with three."""
    return f"{value:.1f}" if figure.endswith("_rank") and "reciprocal" not in figure else (
        f"{value:.3f}"
    )  # fmt: skip


def with_interval(measured: dict[str, Any], way: str, figure: str) -> str:
    """Format a figure with its interval: `0.106 (0.071 to 0.143)`."""
    low, high = measured["intervals"][way][figure]
    value = number(figure, measured[way][figure])
    return f"{value} ({number(figure, low)} to {number(figure, high)})"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |" for line in lines
    )


def report_markdown(report: dict[str, Any], plots: Sequence[str]) -> str:
    """Return one report as Markdown, with the plots that lie beside it."""
    words = report["bag_of_words"]
    out = [
        f"# {report['bundle']} on {report['data']} ({report['split']})",
        "",
        f"{report['pictures']} images, {report['captions']} captions; towers run by "
        f"{report['towers']}; bundle {report['bundle_id']}, data {report['data_id']}.",
        f"In brackets: {report['confidence']:.0%} intervals, percentile bootstrap over images "
        f"({report['resamples']} resamples, seed {report['seed']}).",
        f"Bag of words: {report['bag_of_words_note']}.",
    ]
    for way in WAYS:
        chance = report[f"chance_{way}"]
        head = ["", "model", "without diacritics", "bag of words", "chance"]
        rows = [
            [
                label,
                with_interval(report, way, figure),
                with_interval(report["without_diacritics"], way, figure),
                with_interval(words, way, figure) if words else "-",
                number(figure, chance[figure]),
            ]
            for figure, label in figure_names(report["at"]).items()
        ]
        queries = f"{chance['queries']} queries, {chance['candidates']} candidates"
        out += ["", f"## {TITLES[way]} ({queries})", "", markdown_table(head, rows)]
    for name in plots:
        title = name.rpartition(".")[0].replace("_", " ")
        out += ["", f"![{title}]({name})"]
    if report["skipped"]:
        out += ["", "## Skipped", "", *(f"- {skip}" for skip in report["skipped"])]
    return "\n".join(out) + "\n"


def comparison_rows(reports: dict[str, dict[str, Any]], way: str) -> list[list[str]]:
    """Return the cells of one direction: a row for each run, then chance and bag of words.

    A run's name comes first, then the figures of `COMPARED`, then recall@1 without diacritics.
    Chance and bag of words follow the runs, once where all runs share them.
    """
    rows = [
        [name, *(with_interval(report, way, figure) for figure in COMPARED),
         with_interval(report["without_diacritics"], way, "recall_at_1")]
        for name, report in reports.items()
    ]  # fmt: skip
    others: list[list[str]] = []
    for name, report in reports.items():
        if words := report["bag_of_words"]:
            cells = [with_interval(words, way, figure) for figure in COMPARED]
            others.append([f"bag of words ({name})", *cells, "-"])
    chances: dict[tuple[str, ...], list[str]] = {}
    for name, report in reports.items():
        cells = [number(figure, report[f"chance_{way}"][figure]) for figure in COMPARED]
        chances.setdefault(tuple(cells), []).append(name)
    for figures, names in chances.items():
        title = "chance" if len(chances) == 1 else f"chance ({', '.join(names)})"
        others.append([title, *figures, "-"])
    return rows + others


def comparison_head() -> list[str]:
    """Return the heads of `comparison_rows`."""
    titles = figure_names()
    return ["run", *(titles[figure] for figure in COMPARED), "recall@1 without diacritics"]
