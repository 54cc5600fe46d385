"""Measure time and memory of ranking in blocks, beside one matrix of all scores.

    python benchmarks/ranking.py --sizes 1000 10000 100000

For each number of images, with five captions each: both directions by
`vireo_training.evaluation.metrics`, and, where it takes less than `--most-gb`, by one matrix of
scores in FP64 whose rows are sorted whole. Every measurement is a process of its own; its memory is
the largest resident size less that of the inputs. Both methods must give the same ranks. Writes
`benchmarks/results/ranking.json`.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from support import machine, option_parser, print_table, write_report
from vireo_training.evaluation.metrics import image_to_text_ranks, text_to_image_ranks

CAPTIONS = 5
DIRECTIONS = ("text_to_image", "image_to_text")
Method = Callable[[np.ndarray, np.ndarray, np.ndarray], list[np.ndarray]]


def main() -> None:
    parser = option_parser(__doc__, "ranking.json")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 4_000, 20_000],
                        help="numbers of images")  # fmt: skip
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--most-gb", type=float, default=8, help="largest whole matrix")
    options = parser.parse_args()
    rows = []
    for count in options.sizes:
        matrix = 8 * count * count * CAPTIONS / 1e9
        row: dict[str, Any] = {"pictures": count, "captions": count * CAPTIONS,
                               "matrix_gb": round(matrix, 3)}  # fmt: skip
        methods: dict[str, Method] = {"blocks": rank_in_blocks}
        if 2 * matrix < options.most_gb:
            methods["whole"] = rank_whole
        for name, method in methods.items():
            row[name] = measure_apart(method, count, options.dim)
            Console().print(count, name, row[name])
        if "whole" in row:
            ranks = [row[name]["mean_rank"] for name in ("blocks", "whole")]
            assert ranks[0] == ranks[1], "both methods must give the same ranks"
        rows.append(row)
    report = {"machine": machine(), "dim": options.dim, "measured": rows}
    write_report(report, options.output)
    show(report)


def measure_apart(method: Method, count: int, dim: int) -> dict[str, Any]:
    """Measure `method` in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        measured: dict[str, Any] = pool.apply(measure, (method, count, dim))
    return measured


def measure(method: Method, count: int, dim: int) -> dict[str, Any]:
    """Return seconds, megabytes and mean ranks of one call."""
    images, texts, owner = make_embeddings(count, dim)
    method(*make_embeddings(64, dim))  # loads the libraries that load at their first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    ranks = method(images, texts, owner)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    mean = {name: float(rank.mean()) for name, rank in zip(DIRECTIONS, ranks, strict=True)}
    return {"seconds": round(seconds, 2), "megabytes": round(memory / 1024), "mean_rank": mean}


def make_embeddings(count: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images, captions near them, and each caption's image.

    FP32 unit rows `[N, D]` and `[5 N, D]`, INT64 `[5 N]`.
    """
    rng = np.random.default_rng(0)
    images = rng.standard_normal((count, dim), dtype=np.float32)
    owner = np.repeat(np.arange(count), CAPTIONS)
    texts = images[owner] + 6 * rng.standard_normal((len(owner), dim), dtype=np.float32)
    for rows in (images, texts):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return images, texts, owner


def rank_in_blocks(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> list[np.ndarray]:
    """Return the rank of each query's best right answer, in both directions."""
    ranks = (text_to_image_ranks(images, texts, owner),
             image_to_text_ranks(images, texts, owner))  # fmt: skip
    return [rank.first for rank in ranks]


def rank_whole(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> list[np.ndarray]:
    """Return the same from one matrix, every row of which is sorted."""
    scores = (texts.astype(np.float64) @ images.T.astype(np.float64)).astype(np.float32)
    by_text = np.argsort(-scores, axis=1, kind="stable")
    first_image = 1 + np.argmax(by_text == owner[:, None], axis=1)
    by_image = np.argsort(-scores.T, axis=1, kind="stable")
    first_text = 1 + np.argmax(owner[by_image] == np.arange(len(images))[:, None], axis=1)
    return [first_image, first_text]


def show(report: dict[str, Any]) -> None:
    rows = []
    for row in report["measured"]:
        cells = [f"{row['pictures']:,}", f"{row['captions']:,}", f"{row['matrix_gb']:.2f}"]
        for name in ("blocks", "whole"):
            figures = row.get(name)
            cells += (
                [f"{figures['seconds']:.1f}", f"{figures['megabytes']:,}"] if figures else ["", ""]
            )
        rows.append(cells)
    computer = report["machine"]
    head = ("images", "captions", "one matrix, GB", "blocks: s", "MB", "whole: s", "MB")
    print_table(head, rows, title=f"{computer['cpu']}, {computer['cores']} cores")


if __name__ == "__main__":
    main()
