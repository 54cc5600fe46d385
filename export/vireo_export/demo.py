"""The demo: every stage on generated scenes, from training to queries through a real Triton."""

from __future__ import annotations

import json
import platform
import resource
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.embedder import Embedder
from vireo_client.files import replacing
from vireo_client.index import Index, IndexWriter
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.indexing.pipeline import index_images
from vireo_client.progress import console, note
from vireo_client.sheet import contact_sheet
from vireo_client.towers.triton import TritonTowers
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_training.data.scenes import generate_scenes, query_for, write_scenes
from vireo_training.evaluation.evaluate import embed_corpus
from vireo_training.loop.train import train
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.presets import load_config
from vireo_training.sources import open_source

from .export import export
from .parity.gate import check
from .parity.measure import measure_parity

DESCRIBED_SCENES = 8
"""Number of test scenes that are queried by a full description."""
SHORT_QUERIES = ("ba con cá màu tím", "ngôi nhà màu hồng trên bãi cát", "hai ngôi sao xanh lá")
HITS = 6
_PACKAGES = (
    "numpy",
    "torch",
    "timm",
    "onnx",
    "onnxruntime",
    "tritonclient",
    "faiss-cpu",
    "tokenizers",
)


def run_demo(
    out: Path, *, train_pictures: int, test_pictures: int, epochs: int | None, seed: int
) -> dict[str, Any]:
    """Run every stage and write `out/report.json` and `out/results.png`.

    Returns:
        The report.

    Raises:
        VireoError: a stage failed.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str, title: str) -> Iterator[None]:
        note(f"{len(seconds) + 1}. {title}", style="bold")
        started = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - started, 2)

    with stage("scenes", f"Scenes: {train_pictures} to learn from, {test_pictures} to search in"):
        for split, count in (("train", train_pictures), ("test", test_pictures)):
            with replacing(out / "scenes" / split, marker="captions.jsonl") as folder:
                write_scenes(folder, split, count, seed)
    records = read_captions(out / "scenes" / "test").records

    with stage("train", "Training the two towers"):
        overrides = [f"seed={seed}"] + ([f"epochs={epochs}"] if epochs else [])
        config = load_config("scenes", overrides)
        result = train(config, out / "scenes" / "train", out, restart=True)
        if result.interrupted:
            raise KeyboardInterrupt
    bundle = Bundle(result.bundle)

    repository = out / "model_repository"
    with stage("export", "Export to ONNX, with the parity gate on the test scenes"):
        onnx_parity = export(open_source(bundle.folder), repository, records)
    exported = Bundle(repository)

    with stage("serve", "Starting Triton"):
        server = TritonServer(repository, ports=Ports(0, 0, 0), log=out / "triton.log")
    with server:
        with Embedder(exported, TritonTowers(exported, server.url)) as embedder:
            with stage("parity", "Parity of PyTorch and Triton, and the retrieval metrics"):
                with Embedder(bundle, TorchTowers.from_bundle(bundle)) as reference:
                    expected = embed_corpus(reference, records)
                parity = measure_parity(expected, embedder, expected.records)
                check(parity)
            with stage("index", "Indexing the test scenes through Triton"):
                with replacing(out / "index", marker=CATALOGUE_FILE) as folder:
                    with IndexWriter(folder, exported) as writer:
                        indexed = index_images(writer, embedder, records)
                    if indexed.interrupted:
                        raise KeyboardInterrupt
            described = generate_scenes("test", min(DESCRIBED_SCENES, test_pictures), seed)
            queries = [query_for(scene) for scene in described] + list(SHORT_QUERIES)
            with stage("search", f"{len(queries)} queries"):
                with Index(out / "index", exported) as index:
                    hits = index.search_images(embedder.embed_texts(queries), HITS)
    contact_sheet(list(zip(queries, hits, strict=True))).save(out / "results.png")

    metrics = parity.metrics_engine
    report = {
        **metrics,
        "parity": {
            "text": parity.as_dict()["text"],
            "image": parity.as_dict()["image"],
            "metric_change": parity.metric_change,
            "onnxruntime": onnx_parity.as_dict(),
        },
        "triton": {"version": server.version},
        "stage_seconds": seconds,
        "total_seconds": round(sum(seconds.values()), 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "pictures": {"train": train_pictures, "test": len(records)},
        "pictures_per_second_indexed": round(indexed.added / indexed.seconds, 1),
        "queries": [
            {"text": text, "matches": [match._asdict() for match in row]}
            for text, row in zip(queries, hits, strict=True)
        ],
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
    }
    (out / "report.json").write_text(
        json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    _summarise(out, report)
    return report


def _summarise(out: Path, report: dict[str, Any]) -> None:
    console.rule()
    for query in report["queries"]:
        best = query["matches"][0]
        note(query["text"], f"    -> {best['score']:.3f}  {best['path']}")
    console.rule()
    for way, label in (
        ("text_to_image", "text to image"),
        ("image_to_text", "image to text"),
    ):
        recall, chance = report[way]["recall_at_1"], report[f"chance_{way}"]["recall_at_1"]
        note(
            f"{label}: recall@1 {recall:.3f} among {report[way]['candidates']}, chance {chance:.3f}"
        )
    note(
        f"Triton {report['triton']['version']}, {report['total_seconds']:.0f} s in all; "
        f"look at {out / 'results.png'} and {out / 'report.json'}"
    )
    if shutil.which("vireo") is None:
        activate = shlex.quote(f"{sys.prefix}/bin/activate")
        note("", f"First: . {activate}")
    index, repository = (shlex.quote(str(out / name)) for name in ("index", "model_repository"))
    note(
        "",
        "Search it yourself:",
        f'  vireo search "ba con cá màu tím" --index {index} --sheet hits.png',
        f"  vireo serve {repository}",
        "With your own photos and captions (a folder with captions.jsonl):",
        "  vireo train PHOTOS --out runs/mine --set image.weights=FILE",
        "  vireo export runs/mine/bundle --data PHOTOS",
        "  vireo index PHOTOS --model runs/mine/model_repository --index my-photos",
        '  vireo search "một câu tiếng Việt" --index my-photos',
        "Look at it in your browser:",
        f"  vireo web {index}",
    )
