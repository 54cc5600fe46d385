"""Measures what a second thread spares a single row, and what it costs beside other work.

    python benchmarks/threads.py --repository runs/demo/model_repository

Each tower of the repository runs one row at a time on one thread and on all, in turns: by itself,
and beside a process that works for two of every ten milliseconds, as a client or a server's own
threads do. Writes `benchmarks/results/threads.json`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from first_light import machine, percentiles
from rich.console import Console
from rich.table import Table
from vireo_client.bundle import Bundle
from vireo_client.cores import usable_cores
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL, model_file
from vireo_client.towers.engine import open_session

RESULTS = Path(__file__).parent / "results" / "threads.json"
TURN = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repository", type=Path, nargs="+", help="one or more",
                        default=[Path("runs/demo/model_repository")])  # fmt: skip
    parser.add_argument("--rounds", type=int, default=20, help=f"turns of {TURN} runs")
    given = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "threads": usable_cores(), "towers": []}
    for repository in given.repository:
        config = Bundle(repository).config
        inputs = {
            TEXT_MODEL: np.full((1, config.text.buckets[0]), 2, dtype=np.int32),
            IMAGE_MODEL: np.zeros((1, 3, config.image.size, config.image.size), dtype=np.uint8),
        }
        for model, row in inputs.items():
            path = model_file(repository, model)
            found = {
                "tower": model,
                "input": list(row.shape),
                "megabytes": round(path.stat().st_size / 1e6, 1),
                "alone": measure(path, row, given.rounds),
            }
            with neighbour():
                found["beside_other_work"] = measure(path, row, given.rounds)
            report["towers"].append(found)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def measure(path: Path, row: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of one row, on one thread and on all, in turns."""
    sessions = {
        "one thread": open_session(path, 1),
        "all threads": open_session(path, usable_cores()),
    }
    seconds: dict[str, list[float]] = {way: [] for way in sessions}
    for _ in range(rounds):
        for way, session in sessions.items():
            values = {session.get_inputs()[0].name: row}
            for number in range(TURN):
                time.sleep(0.001)  # a client has something to do between two requests
                started = time.perf_counter()
                session.run(["embedding"], values)
                if number >= 5:
                    seconds[way].append(time.perf_counter() - started)
    return {way: percentiles(values) for way, values in seconds.items()}


@contextmanager
def neighbour() -> Iterator[None]:
    """Another process that works for two of every ten milliseconds."""
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
    console = Console()
    computer = report["machine"]
    console.print(f"{computer['cpu']}, {computer['cores']} cores; p50 / p99 of one row, ms")
    table = Table("tower", "MB", "", "one thread", f"{report['threads']} threads")
    for tower in report["towers"]:
        for when in ("alone", "beside_other_work"):
            cells = [f"{m['p50']:.2f} / {m['p99']:.2f}" for m in tower[when].values()]
            first = [tower["tower"], str(tower["megabytes"])] if when == "alone" else ["", ""]
            table.add_row(*first, when.replace("_", " "), *cells)
    console.print(table)


if __name__ == "__main__":
    main()
