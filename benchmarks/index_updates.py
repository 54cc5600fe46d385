"""Measure updates of a large index: opening it, adding to it, and what is written.

Builds an index of 1,000,000 random vectors of size 512 in a temporary folder: 2,000 clusters in 64
dimensions, turned into 512, with some noise, as real embeddings lie in clusters and in fewer
dimensions than they have. Then adds 1,000 images several times; each round counts the bytes that
the process wrote (`/proc/self/io`) and the bytes by which the folder grew. Writes
`benchmarks/results/index_updates.json`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from support import machine, option_parser, print_heading, print_table, write_report
from vireo_client.bundle import (
    TOKENIZER_FILE,
    Bundle,
    BundleConfig,
    ImageSpec,
    TextSpec,
    write_config,
)
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.columns import fields_of
from vireo_client.index.rows import FileStamp, ImageRow
from vireo_client.index.segments import segment_name
from vireo_client.index.storage import write_segment
from vireo_client.index.writable import WritableCatalogue

BLOCK = 20_000
INNER, CLUSTERS, NOISE = 64, 2_000, 0.02
Vectors = npt.NDArray[np.float32]


def main() -> None:
    parser = option_parser(__doc__, "index_updates.json")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--added", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=10, help="how often images are added")
    parser.add_argument("--folder", type=Path, help="where the index is made; must be on a disk")
    options = parser.parse_args()
    draw = Embeddings(options.dim)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        bundle = make_bundle(Path(place) / "model_repository", options.dim)
        folder = Path(place) / "index"
        started = time.perf_counter()
        build(folder, bundle, draw, options.vectors)
        built = time.perf_counter() - started
        report = {
            "machine": machine(),
            "vectors": options.vectors,
            "dim": options.dim,
            "added": options.added,
            "made_of": f"{CLUSTERS} clusters in {INNER} dimensions, noise {NOISE}",
            "build_seconds": round(built, 1),
            "folder_bytes": folder_bytes(folder),
            **measure_opening(folder, bundle, draw),
            "rounds": [
                add_round(folder, bundle, draw, turn, options.added)
                for turn in range(options.rounds)
            ],
        }
    rounds = report["rounds"]
    report["save_seconds_median"] = statistics.median(r["save_seconds"] for r in rounds)
    write_report(report, options.output)
    print_heading(report, f"{options.vectors:,} vectors of size {options.dim}")
    print_table(
        ["round", "open the writer", "add", "save", "written", "folder grew"],
        [
            [
                str(number),
                f"{r['open_seconds']:.3f} s",
                f"{r['add_seconds']:.3f} s",
                f"{r['save_seconds']:.3f} s",
                f"{r['written_bytes'] / 1e6:.1f} MB",
                f"{r['grown_bytes'] / 1e6:.1f} MB",
            ]
            for number, r in enumerate(rounds, 1)
        ],
        f"{options.added:,} images at a time",
    )


class Embeddings:
    """Draws unit vectors that lie in clusters and in few dimensions."""

    def __init__(self, dim: int) -> None:
        self._random = np.random.default_rng(0)
        self._turn = self._random.standard_normal((INNER, dim), dtype=np.float32) / INNER**0.5
        self._centres = self._random.standard_normal((CLUSTERS, INNER), dtype=np.float32)

    def __call__(self, count: int) -> Vectors:
        """Draw FP32 `[count, D]`."""
        inner = self._centres[self._random.integers(0, CLUSTERS, count)]
        inner = inner + 0.5 * self._random.standard_normal(inner.shape, dtype=np.float32)
        drawn = inner @ self._turn
        drawn += NOISE * self._random.standard_normal(drawn.shape, dtype=np.float32)
        vectors: Vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return vectors


def make_bundle(folder: Path, dim: int) -> Bundle:
    """Write a bundle without weights: an index needs no more of it."""
    folder.mkdir(parents=True)
    write_config(
        folder,
        BundleConfig(
            bundle_id="index-updates",
            embedding_dim=dim,
            image=ImageSpec(size=8, resize=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            text=TextSpec(
                normalization="nfc",
                segmenter="none",
                segmenter_files=(),
                pad_id=0,
                vocab_size=10,
                buckets=(8,),
            ),
            model={},
            metrics={},
        ),
    )
    (folder / TOKENIZER_FILE).write_text("{}")
    return Bundle(folder)


def build(folder: Path, bundle: Bundle, draw: Embeddings, count: int) -> None:
    """Make an index of one segment, with all rows in one transaction."""
    with IndexWriter(folder, bundle):
        pass
    dim = bundle.config.embedding_dim

    def blocks() -> Iterator[Vectors]:
        for start in range(0, count, BLOCK):
            yield draw(min(BLOCK, count - start))

    name = segment_name("images", 1, "00000000")
    ids = np.arange(1, count + 1, dtype=np.int64)
    entry = write_segment(folder, name, "images", ids, blocks(), dim)
    catalogue = WritableCatalogue(folder / CATALOGUE_FILE)
    state = catalogue.state()._replace(generation=1, writer_id="00000000", images=count)
    with catalogue.transaction():
        for start in range(0, count, BLOCK):
            rows = [
                ImageRow(n + 1, path_of("base", n), "0" * 64, FileStamp(n, n))
                for n in range(start, min(start + BLOCK, count))
            ]
            nothing = np.empty(0, np.float32)
            fields = [fields_of(r.id, NewImage(r.path, r.sha256, r.stamp, nothing)) for r in rows]
            catalogue.add(rows, (), fields)
        catalogue.add_segments([entry])
        catalogue.set_state(state)
        catalogue.set_meta(next_image_id=str(count + 1))
    catalogue.close()


def measure_opening(folder: Path, bundle: Bundle, draw: Embeddings) -> dict[str, Any]:
    """Measure how long a reader takes to open, and to answer its first query."""
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        with Index(folder, bundle):
            seconds.append(time.perf_counter() - started)
    with Index(folder, bundle) as index:
        started = time.perf_counter()
        index.search_images(draw(1), 10)
        first = time.perf_counter() - started
    return {
        "reader_open_seconds": round(statistics.median(seconds), 4),
        "first_exact_query_seconds": round(first, 4),
    }


def add_round(
    folder: Path, bundle: Bundle, draw: Embeddings, turn: int, count: int
) -> dict[str, Any]:
    """Open a writer, add images, save; then search for the last of them."""
    images = [
        NewImage(path_of(f"new-{turn}", n), "0" * 64, FileStamp(n, n), vector)
        for n, vector in enumerate(draw(count))
    ]
    size, written = folder_bytes(folder), written_bytes()
    started = time.perf_counter()
    with IndexWriter(folder, bundle) as writer:
        opened = time.perf_counter()
        writer.add(images)
        added = time.perf_counter()
        writer.save()
        saved = time.perf_counter()
    with Index(folder, bundle) as index:
        (best, *_) = index.search_images(images[-1].embedding[None], 1)[0]
    assert best.path == images[-1].path, best
    return {
        "open_seconds": round(opened - started, 4),
        "add_seconds": round(added - opened, 4),
        "save_seconds": round(saved - added, 4),
        "written_bytes": written_bytes() - written,
        "grown_bytes": folder_bytes(folder) - size,
    }


def path_of(folder: str, number: int) -> str:
    """Return a path as photos have: neighbours in time lie side by side."""
    return f"/photos/{folder}/{number // 1000:04}/IMG_{number:07}.jpg"


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def written_bytes() -> int:
    """Return the bytes that this process gave the operating system to write."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


if __name__ == "__main__":
    main()
