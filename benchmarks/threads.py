"""Measure what a second thread saves for a single row, and what it costs beside other work.

    python benchmarks/threads.py --repository runs/demo/model_repository

Each tower of the repository runs one row at a time, on one thread and on all, in turns: alone, and
beside a process that works for two of every ten milliseconds, as a client or a server's own threads
do. Writes `benchmarks/results/threads.json`.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from support import (
    DEMO,
    machine,
    option_parser,
    percentiles,
    print_heading,
    print_table,
    write_report,
)
from vireo_client.bundle import Bundle
from vireo_client.cores import usable_cores
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL, model_file
from vireo_client.towers.engine import open_session

TURN, NOT_COUNTED = 50, 5
"""Runs of one session before the other's turn, and how many of them are not counted."""


def main() -> None:
    parser = option_parser(__doc__, "threads.json")
    parser.add_argument("--repository", type=Path, nargs="+", default=[DEMO / "model_repository"],
                        help="one or more model repositories")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=20, help=f"turns of {TURN} runs")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "threads": usable_cores(), "towers": []}
    for repository in options.repository:
        config = Bundle(repository).config
        inputs = {
            TEXT_MODEL: np.full((1, config.text.buckets[0]), 2, dtype=np.int32),
            IMAGE_MODEL: np.zeros((1, 3, config.image.size, config.image.size), dtype=np.uint8),
        }
        for model, row in inputs.items():
            engine = model_file(repository, model)
            figures = {
                "tower": model,
                "input": list(row.shape),
                "megabytes": round(engine.stat().st_size / 1e6, 1),
                "alone": measure(engine, row, options.rounds),
            }
            with busy_neighbour():
                figures["beside_other_work"] = measure(engine, row, options.rounds)
            report["towers"].append(figures)
    write_report(report, options.output)
    show(report)


def measure(engine: Path, row: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """Return the milliseconds of one row on one thread and on all, measured in turns."""
    sessions = {
        "one thread": open_session(engine, 1),
        "all threads": open_session(engine, usable_cores()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            values = {session.get_inputs()[0].name: row}
            for number in range(TURN):
                time.sleep(0.001)  # a client has something to do between two requests
                start = time.perf_counter()
                session.run(["embedding"], values)
                if number >= NOT_COUNTED:
                    seconds[name].append(time.perf_counter() - start)
    return {name: percentiles(values) for name, values in seconds.items()}


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Run another process that works for two of every ten milliseconds."""
    process = multiprocessing.get_context("spawn").Process(target=_work_on_and_off, daemon=True)
    process.start()
    time.sleep(1.0)  # until it has started
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _work_on_and_off() -> None:
    while True:
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        time.sleep(0.008)


def show(report: dict[str, Any]) -> None:
    print_heading(report, "p50 / p99 of one row, ms")
    rows = []
    for tower in report["towers"]:
        for when in ("alone", "beside_other_work"):
            cells = [f"{m['p50']:.2f} / {m['p99']:.2f}" for m in tower[when].values()]
            first = [tower["tower"], str(tower["megabytes"])] if when == "alone" else ["", ""]
            rows.append([*first, when.replace("_", " "), *cells])
    print_table(("tower", "MB", "", "one thread", f"{report['threads']} threads"), rows)


if __name__ == "__main__":
    main()
