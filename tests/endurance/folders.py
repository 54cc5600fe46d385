"""Servers that start at once: each makes a folder of its own and removes those of the dead."""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from collections import Counter
from pathlib import Path

from vireo_client.held import temporary_folder

PREFIX = ".models-serve-"
_PROCESSES = 4


def start_at_once(folder: Path, starts: int, seed: int = 0) -> Counter[str]:
    """Let four processes make, hold and leave folders as starting servers do, side by side.

    Of ten, one is left as a killed server leaves it.

    Args:
        folder: where the folders are made.
        starts: how many in all.
        seed: of what is left.

    Returns:
        How many were `started`, `left` behind, and `failed`: could not be made, or were removed
        while they were held; and how many are there `after` one more start.
    """
    counts: Counter[str] = Counter()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    each = starts // _PROCESSES
    processes = [
        context.Process(target=_start, args=(folder, each, seed + number, results))
        for number in range(_PROCESSES)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        counts += results.get()
    for process in processes:
        process.join()
    temporary_folder(PREFIX, folder).close()
    counts["after"] = len(list(folder.iterdir()))
    return counts


def _start(folder: Path, starts: int, seed: int, results: multiprocessing.Queue) -> None:
    draw, counts = random.Random(seed), Counter()
    for _ in range(starts):
        counts["started"] += 1
        if draw.random() < 0.1:
            tempfile.mkdtemp(prefix=PREFIX, dir=folder)  # made, and killed before it is locked
            counts["left"] += 1
        try:
            with temporary_folder(PREFIX, folder) as own:
                (own / "config.pbtxt").write_text("x")
                if draw.random() < 0.5:
                    (own / "model").mkdir()
                assert (own / "config.pbtxt").read_text() == "x"
        except OSError as error:
            counts[f"failed: {error}"[:60]] += 1
    results.put(counts)
