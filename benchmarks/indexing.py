"""Measure the speed of indexing beside that of the bare image tower on the same images.

    python benchmarks/indexing.py --images FOLDER [--model REPOSITORY]

The bare tower gets pixels that were decoded before, batch after batch, with as many batches in
flight as it takes, which is the most that it can do. Indexing does everything: it lists, reads,
hashes and decodes the files, reads their EXIF, embeds them, writes and saves an index, and learns
relevance. Both run in turns, in process and through Triton on this machine. Each turn of indexing
is divided by the turn of the tower beside it, as the speed of a shared machine drifts; medians
count. Decoding is also measured by itself, on all cores: without a GPU it takes cores that the
tower uses. By default the towers have the sizes of `vireo-base` and random weights.
Writes `benchmarks/results/indexing.json`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from real_size import make_repository
from support import machine, option_parser, print_heading, print_table, write_report
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.cores import usable_cores
from vireo_client.embedder import Embedder
from vireo_client.folders import find_images
from vireo_client.images import load_pixels
from vireo_client.index import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.overlap import batched, map_ahead
from vireo_client.search import open_embedder
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer


def main() -> None:
    parser = option_parser(__doc__, "indexing.json")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--model", type=Path, help="a model repository; by default a random one")
    parser.add_argument("--run", type=Path, help="keep the towers here, and take them from here")
    parser.add_argument(
        "--count", type=int, default=1000, help="images of the folder that are used, at most"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    options = parser.parse_args()
    paths = find_images(options.images)[: options.count]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = Bundle(options.model or make_repository(options.run or folder))
        with TritonServer(bundle.folder, ports=Ports(0, 0, 0), log=folder / "triton.log") as server:
            report = {
                "machine": machine(),
                "settings": {
                    "triton": server.version,
                    "onnxruntime": onnxruntime.__version__,
                    "images": len(paths),
                    "kilobytes": round(sum(p.stat().st_size for p in paths) / len(paths) / 1000),
                    "rounds": options.rounds,
                    "towers": str(options.model or "size of vireo-base, INT8, random weights"),
                },
                "images_a_second": {
                    "decoding": measure_decoding(bundle, paths),
                    "in process": compare(bundle, None, paths, folder / "a", options.rounds),
                    "through Triton": compare(
                        bundle, server.url, paths, folder / "b", options.rounds
                    ),
                },
            }
    write_report(report, options.output)
    show(report)


def measure_decoding(bundle: Bundle, paths: Sequence[Path]) -> float:
    """Return how many images a second all cores decode, with nothing beside."""
    spec = bundle.config.image
    with ThreadPoolExecutor(usable_cores()) as pool:
        seconds = _seconds(lambda: [*pool.map(lambda path: load_pixels(path, spec), paths)])
    return round(len(paths) / seconds, 1)


def compare(
    bundle: Bundle, url: str | None, paths: Sequence[Path], folder: Path, rounds: int
) -> dict[str, float]:
    """Measure the bare tower and indexing, which take turns."""
    pixels = [load_pixels(path, bundle.config.image) for path in paths]
    records = [CaptionedImage(path, ()) for path in paths]
    numbers = count()
    times: dict[str, list[float]] = {"tower": [], "indexing": []}
    with open_embedder(bundle, url, bulk=True) as embedder:
        run_tower(embedder, pixels[:64])  # not counted: caches are cold

        def index() -> None:
            with IndexWriter(folder / str(next(numbers)), bundle) as writer:
                report = index_images(writer, embedder, records)
            assert report.added == len(paths), report.skipped[:3]

        turns: dict[str, Callable[[], object]] = {
            "tower": lambda: run_tower(embedder, pixels),
            "indexing": index,
        }
        for number in range(rounds):
            for name in sorted(turns, reverse=bool(number % 2)):  # each goes first in turn
                times[name].append(_seconds(turns[name]))
    shares = [tower / indexing for tower, indexing in zip(*times.values(), strict=True)]
    return {
        "tower": round(len(paths) / median(times["tower"]), 1),
        "indexing": round(len(paths) / median(times["indexing"]), 1),
        "share": round(median(shares), 3),
        "least": round(min(shares), 3),
        "most": round(max(shares), 3),
    }


def run_tower(embedder: Embedder, pixels: Sequence[np.ndarray]) -> None:
    """Embed decoded images, with as many batches in flight as the towers take."""
    size, in_flight = embedder.towers.max_batch_size, embedder.batches_in_flight
    with ThreadPoolExecutor(in_flight) as pool:
        for _ in map_ahead(pool, embedder.embed_pixels, batched(pixels, size), in_flight):
            pass


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(report: dict[str, Any]) -> None:
    """Print the result as a table."""
    speeds = report["images_a_second"]
    print_heading(report, f"{report['settings']['images']} images", report["settings"]["towers"])
    rows = [("decoding alone", f"{speeds['decoding']:.0f}", "", "")]
    rows += [
        (
            name,
            f"{values['tower']:.1f}",
            f"{values['indexing']:.1f}",
            f"{values['share']:.3f} ({values['least']:.3f} to {values['most']:.3f})",
        )
        for name, values in speeds.items()
        if name != "decoding"
    ]
    head = ("images/s", "bare tower", "indexing", "share")
    print_table(head, rows)


if __name__ == "__main__":
    main()
