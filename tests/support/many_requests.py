"""Sends many requests to a Triton, and measures what they leave in memory and in open files.

    PYTHONPATH=tests python -m support.many_requests REPOSITORY HOST:PORT --requests 10000

The test sends 2,000. Half of them go through the asyncio client, ten at once. Of the others, each
tenth opens and closes a client of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from vireo_client.bundle import Bundle
from vireo_client.towers.aio import AsyncTritonTowers
from vireo_client.towers.triton import TritonTowers

THREADS = 4
PHASES = 5


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def open_files() -> int:
    """Return how many files and connections this process has open."""
    return len(os.listdir("/proc/self/fd"))


def send(bundle: Bundle, url: str, requests: int) -> list[dict[str, int]]:
    """Send requests in `PHASES` parts of equal size, and measure after each.

    The parts are alike; a leak grows from part to part.
    """
    size = bundle.config.image.size
    ids = np.full((2, 16), 5, dtype=np.int32)
    pixels = np.zeros((32, 3, size, size), dtype=np.uint8)
    measured = []
    towers = TritonTowers(bundle, url)

    def ask(number: int) -> None:
        if number % 10 == 0:
            with_own = TritonTowers(bundle, url)
            with_own.encode_text(ids)
            with_own.close()
        elif number % 2:
            towers.encode_text(ids)
        else:
            towers.encode_image(pixels)

    async def ask_together(count: int) -> None:
        async with AsyncTritonTowers(bundle, url) as asynchronous:
            for _ in range(count // 10):
                await asyncio.gather(*(asynchronous.encode_text(ids) for _ in range(10)))

    each = requests // PHASES
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(PHASES):
            list(threads.map(ask, range(each // 2)))
            asyncio.run(ask_together(each // 2))
            gc.collect()
            measured.append({"bytes": resident(), "files": open_files()})
    towers.close()
    return measured


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository")
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=10_000)
    given = parser.parse_args()
    print(json.dumps(send(Bundle(given.repository), given.url, given.requests)))
