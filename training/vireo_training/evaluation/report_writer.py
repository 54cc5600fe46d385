"""Writes a report's files: JSON, Markdown, plots and sheets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from vireo_client.index import Match
from vireo_client.sheet import contact_sheet

from .evaluate import captions_of
from .metrics import right_pairs
from .plots import (
    need_matplotlib,
    plot_recall_curves,
    plot_similarity,
    plot_training,
    read_history,
)
from .report import MARKDOWN_FILE, REPORT_FILE, Evaluation, write_files
from .report_tables import report_markdown

HISTORY_FILE = "history.jsonl"
HEAT_MAP_IMAGES = 20
SHEET_ROWS = 6
HITS = 6


def write_report(evaluation: Evaluation, out: Path, run: Path | None = None) -> list[Path]:
    """Write `report.json`, `report.md` and the plots into `out`.

    An earlier report there is replaced; other files stay.

    Args:
        evaluation: the result of `evaluate_in_full`, with "bundle", "data" and "split" added.
        out: the folder.
        run: the run folder, whose `history.jsonl` gives the training curves, if it is there.

    Returns:
        The paths of the written files.

    Raises:
        DataError: the folder cannot be written to.
        MissingExtraError: matplotlib is not installed.
    """
    need_matplotlib()
    report = evaluation.report
    history = read_history(run / HISTORY_FILE) if run is not None else []
    plots: dict[str, Callable[[Path], None] | None] = {
        "recall_curves.png": lambda path: plot_recall_curves(report, path),
        "training_curves.png": (lambda path: plot_training(history, path)) if history else None,
        "similarity.png": lambda path: _draw_similarity(evaluation, path),
        "best_queries.png": lambda path: query_sheet(evaluation, best=True).save(path),
        "worst_queries.png": lambda path: query_sheet(evaluation, best=False).save(path),
    }
    names = [name for name, draw in plots.items() if draw is not None]
    text = report_markdown(report, names)
    encoded = json.dumps(report, ensure_ascii=False, indent=2) + "\n"
    files: dict[str, Callable[[Path], None] | None] = {
        **plots,
        MARKDOWN_FILE: lambda path: _write(path, text),
        # Last, so that the other files stand when it does.
        REPORT_FILE: lambda path: _write(path, encoded),
    }
    write_files(out, files)
    return [out / name for name in (*names, MARKDOWN_FILE, REPORT_FILE)]


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _draw_similarity(evaluation: Evaluation, path: Path) -> None:
    corpus = evaluation.corpus
    rng = np.random.default_rng(evaluation.report["seed"])
    count = min(HEAT_MAP_IMAGES, len(corpus.images))
    rows = np.sort(rng.choice(len(corpus.images), count, replace=False))
    first = np.searchsorted(corpus.owner, rows)  # each image's first caption
    captions, _ = captions_of(corpus.records)
    plot_similarity(
        corpus.texts[first] @ corpus.images[rows].T,
        [captions[row] for row in first],
        [corpus.records[row].path.name for row in rows],
        path,
    )


def query_sheet(evaluation: Evaluation, *, best: bool) -> Image.Image:
    """Draw the captions that find their images best or worst, one for each image, with their hits.

    Best is the lowest rank, then the highest cosine to the caption's own image; worst the reverse.
    Where the best right image is not among the hits, it stands behind them with its own rank.
    """
    corpus, ranks = evaluation.corpus, evaluation.text_to_image.first
    own = np.einsum("td,td->t", corpus.texts, corpus.images[corpus.owner])
    query_of, image_of = right_pairs(corpus.owner, corpus.same)
    order = np.lexsort((-own, ranks))
    rows = []
    captions, _ = captions_of(corpus.records)
    for query in _one_each(order if best else order[::-1], corpus.owner):
        scores = np.nan_to_num(corpus.images @ corpus.texts[query], nan=-np.inf)
        all_right = image_of[slice(*np.searchsorted(query_of, [query, query + 1]))]
        right = int(all_right[scores[all_right].argmax()])
        hits = np.argsort(-scores, kind="stable")[:HITS].tolist()
        matches = [
            Match(n, float(scores[h]), str(corpus.records[h].path))
            for n, h in enumerate(hits, start=1)
        ]
        if right not in hits:
            path = str(corpus.records[right].path)
            matches.append(Match(int(ranks[query]), float(scores[right]), path))
        rows.append((f"right image at rank {ranks[query]}: {captions[query]}", matches))
    return contact_sheet(rows)


def _one_each(order: npt.NDArray[np.int64], owner: npt.NDArray[np.int64]) -> list[int]:
    """Return the first queries in `order`, one for each image."""
    chosen: dict[int, int] = {}
    for query in order:
        chosen.setdefault(int(owner[query]), int(query))
        if len(chosen) == SHEET_ROWS:
            break
    return list(chosen.values())
