"""Four processes that write into one index, again and again: one at a time gets in, none loses."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from pathlib import Path

from support.small_index import new_image, unit
from vireo_client.bundle import Bundle
from vireo_client.errors import IndexLocked
from vireo_client.index import Index, IndexWriter
from vireo_client.index.maintenance import verify

_WRITERS = 4


def write_together(folder: Path, bundle: Bundle, rounds: int) -> Counter[str]:
    """Let four writers add three images each at once, as often as `rounds` says.

    Returns:
        How many rounds there were, images are there, writers had to wait, and images are `lost`.
    """
    context = multiprocessing.get_context("fork")
    counts: Counter[str] = Counter()
    for round_ in range(rounds):
        results = context.Queue()
        writers = [
            context.Process(target=_write, args=(folder, bundle, round_, number, results))
            for number in range(_WRITERS)
        ]
        for writer in writers:
            writer.start()
        for _ in writers:
            counts["waits"] += results.get()
        for writer in writers:
            writer.join()
        counts["rounds"] += 1
    names = [n for round_ in range(rounds) for w in range(_WRITERS) for n in _names(round_, w)]
    with Index(folder, bundle) as index:
        counts["images"] = len(index)
        for name in names:
            (match,) = index.search_images(unit(name)[None], 1)[0]
            counts["lost"] += match.path != f"/p/{name}.jpg" or match.score < 0.999
    counts["damaged"] = len(verify(folder).problems)
    return counts


def _names(round_: int, writer: int) -> list[int]:
    first = 3 * (round_ * _WRITERS + writer) + 1
    return [first, first + 1, first + 2]


def _write(
    folder: Path, bundle: Bundle, round_: int, number: int, results: multiprocessing.Queue
) -> None:
    waits = 0
    while True:
        try:
            with IndexWriter(folder, bundle) as writer:
                for name in _names(round_, number):
                    writer.add([new_image(f"/p/{name}.jpg", name, captions=1)])
                writer.save()
            break
        except IndexLocked:
            waits += 1
            time.sleep(0.002)
    results.put(waits)
