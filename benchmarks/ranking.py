"""Time and memory of ranking in blocks, beside the whole matrix of scores.

    python benchmarks/ranking.py --sizes 1000 10000 100000

For each number of pictures, with five captions each: both directions by
`vireo_training.evaluation.metrics`, and, where it takes less than `--most-gb`, by one matrix of
scores in FP64 that is sorted whole. Every measurement is a process of its own, whose largest
resident memory counts less that of its inputs. The two ways must give the same ranks. Writes
`benchmarks/results/ranking.json`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from first_light import machine
from rich.console import Console
from rich.table import Table
from vireo_training.evaluation.metrics import image_to_text_ranks, text_to_image_ranks

RESULTS = Path(__file__).parent / "results" / "ranking.json"
CAPTIONS = 5
WAYS = ("text_to_image", "image_to_text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 4_000, 20_000],
                        help="pictures")  # fmt: skip
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--most-gb", type=float, default=8, help="of a whole matrix")
    given = parser.parse_args()
    rows = []
    for pictures in given.sizes:
        matrix = 8 * pictures * pictures * CAPTIONS / 1e9
        row: dict[str, Any] = {"pictures": pictures, "captions": pictures * CAPTIONS,
                               "matrix_gb": round(matrix, 3)}  # fmt: skip
        ways = {"blocks": in_blocks} | ({"whole": whole} if 2 * matrix < given.most_gb else {})
        for name, how in ways.items():
            row[name] = apart(how, pictures, given.dim)
            Console().print(pictures, name, row[name])
        if "whole" in row:
            same = all(row["blocks"]["mean_rank"][w] == row["whole"]["mean_rank"][w] for w in WAYS)
            assert same, "both ways must give the same ranks"
        rows.append(row)
    report = {"machine": machine(), "dim": given.dim, "measured": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def apart(how: Any, pictures: int, dim: int) -> dict[str, Any]:
    """Runs `how` in a process that did nothing before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: dict[str, Any] = pool.apply(measure, (how, pictures, dim))
    return found


def measure(how: Any, pictures: int, dim: int) -> dict[str, Any]:
    images, texts, picture = vectors(pictures, dim)
    how(*vectors(64, dim))  # libraries that load when they are first used
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    ranks = how(images, texts, picture)
    seconds = time.perf_counter() - started
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    mean = {way: float(found.mean()) for way, found in zip(WAYS, ranks, strict=True)}
    return {"seconds": round(seconds, 2), "megabytes": round(taken / 1024), "mean_rank": mean}


def vectors(pictures: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, and captions near them: FP32 unit vectors `[N, D]`, `[5 N, D]`, INT64 `[5 N]`."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((pictures, dim), dtype=np.float32)
    picture = np.repeat(np.arange(pictures), CAPTIONS)
    texts = images[picture] + 6 * rng.standard_normal((len(picture), dim), dtype=np.float32)
    for rows in (images, texts):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return images, texts, picture


def in_blocks(images: np.ndarray, texts: np.ndarray, picture: np.ndarray) -> list[np.ndarray]:
    """The rank of each query's best right answer, in both directions."""
    ranks = (text_to_image_ranks(images, texts, picture),
             image_to_text_ranks(images, texts, picture))  # fmt: skip
    return [found.first for found in ranks]


def whole(images: np.ndarray, texts: np.ndarray, picture: np.ndarray) -> list[np.ndarray]:
    """The same from one matrix, every row of which is sorted."""
    scores = (texts.astype(np.float64) @ images.T.astype(np.float64)).astype(np.float32)
    by_text = np.argsort(-scores, axis=1, kind="stable")
    first_picture = 1 + np.argmax(by_text == picture[:, None], axis=1)
    by_picture = np.argsort(-scores.T, axis=1, kind="stable")
    first_text = 1 + np.argmax(picture[by_picture] == np.arange(len(images))[:, None], axis=1)
    return [first_picture, first_text]


def show(report: dict[str, Any]) -> None:
    table = Table(title=f"{report['machine']['cpu']}, {report['machine']['cores']} cores")
    for column in ("pictures", "captions", "one matrix, GB", "blocks: s", "MB", "whole: s", "MB"):
        table.add_column(column, justify="right")
    for row in report["measured"]:
        cells = [f"{row['pictures']:,}", f"{row['captions']:,}", f"{row['matrix_gb']:.2f}"]
        for way in ("blocks", "whole"):
            got = row.get(way)
            cells += [f"{got['seconds']:.1f}", f"{got['megabytes']:,}"] if got else ["", ""]
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
