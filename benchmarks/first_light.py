"""Measure the demo's model: a text query by stage, with three embedders, and indexing.

Run `make demo` first, then `make bench`. Everything is measured in one run on one machine, in
turns, and quoted as medians. 10,000 vectors are indexed; queries are captions of the test scenes.
Writes `benchmarks/results/first_light.json`.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
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
from vireo_client.captions import read_captions
from vireo_client.embedder import Embedder
from vireo_client.images import load_pixels
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.rows import FileStamp
from vireo_client.indexing.pipeline import index_images
from vireo_client.towers.onnx import OnnxTowers
from vireo_client.towers.triton import TritonTowers
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_training.models.torch_towers import TorchTowers

K = 10
TURN, NOT_COUNTED = 25, 5
"""Queries of one embedder before the next, and how many of them are not counted."""
# The keys of the result file.
STAGES = ("segment", "tokenise", "embed", "search")


def main() -> None:
    parser = option_parser(__doc__, "first_light.json")
    parser.add_argument("--run", type=Path, default=DEMO, help="the demo's folder")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--vectors", type=int, default=10_000)
    options = parser.parse_args()
    bundle = Bundle(options.run / "bundle")
    repository = Bundle(options.run / "model_repository")
    records = read_captions(options.run / "scenes" / "test").records

    with TritonServer(repository.folder, ports=Ports(0, 0, 0)) as server:
        embedders = {
            "Triton": Embedder(repository, TritonTowers(repository, server.url)),
            "ONNX Runtime in process": Embedder(repository, OnnxTowers.from_repository(repository)),
            "PyTorch eager": Embedder(bundle, TorchTowers.from_bundle(bundle)),
        }
        report = {
            "machine": machine(),
            "settings": {"queries": options.queries, "vectors": options.vectors, "k": K,
                         "embedding_dim": repository.config.embedding_dim,
                         "triton": server.version},
            "text_query_ms": text_queries(embedders, records, options.vectors, options.queries),
            "pictures_per_second": indexing(embedders, records),
        }  # fmt: skip
        for embedder in embedders.values():
            embedder.close()
    write_report(report, options.output)
    show(report)


def text_queries(
    embedders: dict[str, Embedder], records: list, vectors: int, queries: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the milliseconds of each stage of a query, with the embedders in turns.

    They do not alternate query by query: the threads of one's libraries spin on for a while after
    its search, and the next would be slower for it. The first queries of a turn are left out for
    the same reason.
    """
    from sklearn.metrics.pairwise import cosine_similarity

    dim = next(iter(embedders.values())).dim
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((vectors, dim)).astype(np.float32)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    texts = [caption for record in records for caption in record.captions]
    texts = [texts[i] for i in rng.permutation(len(texts))[:queries]]
    seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    with tempfile.TemporaryDirectory() as folder:
        bundle = next(iter(embedders.values())).bundle
        with IndexWriter(Path(folder) / "index", bundle) as writer:
            writer.add([NewImage(f"{n}.jpg", "", FileStamp(0, 0), v) for n, v in enumerate(corpus)])
            writer.save()
        with Index(Path(folder) / "index", bundle) as index:

            def by_index(vector: np.ndarray) -> object:
                return index.search_images(vector, K)

            def by_sorting(vector: np.ndarray) -> object:
                return np.argsort(-cosine_similarity(vector, corpus)[0])[:K]

            for turn in range(0, len(texts), TURN):
                for name, embedder in embedders.items():
                    search = by_sorting if name == "PyTorch eager" else by_index
                    for number, text in enumerate(texts[turn : turn + TURN]):
                        stages = one_query(embedder, text, search)
                        if number >= NOT_COUNTED:
                            for stage, value in stages.items():
                                seconds[name][stage].append(value)
    return {
        name: {stage: percentiles(values) for stage, values in stages.items()}
        for name, stages in seconds.items()
    }


def one_query(
    embedder: Embedder, text: str, search: Callable[[np.ndarray], object]
) -> dict[str, float]:
    """Return the seconds of each stage of one query, and of all."""
    path = embedder.text_path
    marks = [time.perf_counter()]

    def mark() -> None:
        marks.append(time.perf_counter())

    segmented = path.segment(text)
    mark()
    ((_, input_ids),) = path.tokenizer.pad(path.tokenizer.ids([segmented]))
    mark()
    vector = embedder.towers.encode_text(input_ids)
    mark()
    search(vector)
    mark()
    stages = {name: b - a for name, a, b in zip(STAGES, marks, marks[1:], strict=False)}
    return stages | {"total": marks[-1] - marks[0]}


def indexing(embedders: dict[str, Embedder], records: list) -> dict[str, float]:
    """Return images a second: from file to saved index, and of the bare tower on ready pixels."""
    spec = next(iter(embedders.values())).bundle.config.image
    pixels = np.stack([load_pixels(record.path, spec) for record in records])
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(5):
        for name, embedder in embedders.items():
            size = embedder.towers.max_batch_size
            start = time.perf_counter()
            for first in range(0, len(pixels), size):
                embedder.towers.encode_image(pixels[first : first + size])
            rates[f"{name}: bare tower"].append(len(pixels) / (time.perf_counter() - start))
            bare = [type(record)(record.path, ()) for record in records]
            with tempfile.TemporaryDirectory() as folder:
                with IndexWriter(Path(folder) / "index", embedder.bundle) as index:
                    start = time.perf_counter()
                    index_images(index, embedder, bare)
            rates[f"{name}: indexing"].append(len(pixels) / (time.perf_counter() - start))
    return {name: round(float(np.median(values)), 1) for name, values in rates.items()}


def show(report: dict) -> None:
    settings = report["settings"]
    print_heading(report, f"{settings['vectors']} vectors, {settings['queries']} queries")
    rows = []
    for stage in (*STAGES, "total"):
        cells = [
            f"{figures[stage]['p50']:.2f} / {figures[stage]['p99']:.2f}"
            for figures in report["text_query_ms"].values()
        ]
        rows.append(["tokenize" if stage == "tokenise" else stage, *cells])
    print_table(("p50 / p99, ms", *report["text_query_ms"]), rows)
    for name, rate in report["pictures_per_second"].items():
        Console().print(f"{name}: {rate:.0f} images a second")


if __name__ == "__main__":
    main()
