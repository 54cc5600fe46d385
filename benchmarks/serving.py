"""Measures what a server adds: `embed_text` and `embed_image` beside the same engines in process.

    python benchmarks/serving.py --pictures FOLDER

The towers have the sizes of `vireo-base` (PhoBERT-base, ViT-S/14) and random weights: only time is
measured. All sides run on one machine, in turns. One client asks for one text, or one JPEG, at a
time; in process, ready ids are run (texts), or files are decoded, preprocessed and run (pictures):
by a plain `session.run` with ONNX Runtime's own settings, and by the engine that the server uses.
Sixteen clients keep as many requests open; in process, batches of every size are run, of which each
way's best counts. The clients run on the server's own cores.
Writes `benchmarks/results/serving.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc as grpc
import tritonclient.grpc.aio as grpc_aio
from first_light import machine, percentiles
from PIL import Image
from rich.console import Console
from rich.table import Table
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, read_captions
from vireo_client.images import find_images, load_pixels
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL, model_file
from vireo_client.text.normalize import normalize
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import load_segmenter
from vireo_client.towers.engine import OnnxEngine
from vireo_export.onnx.export import export_towers
from vireo_export.onnx.optimise import optimise
from vireo_export.precision.calibration import Calibration
from vireo_export.precision.int8 import candidates
from vireo_export.sources import open_source
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.repository.publish import publishing, write_repository
from vireo_serving.server.server import Ports, TritonServer
from vireo_training.config import load_config
from vireo_training.data.scenes import write_scenes
from vireo_training.models.bundle_writer import write_bundle
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.models.resolve import image_spec, resolve
from vireo_training.models.tokenizer import make_tokenizer

RESULTS = Path(__file__).parent / "results" / "serving.json"
BUCKETS = (16, 32)
CLIENTS = 16
BATCHES = (1, 2, 4, 8, 16, 32)
MODELS = {"text": "embed_text", "image": "embed_image"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=Path, help="real JPEGs; by default generated ones")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    parser.add_argument("--calls", type=int, default=20, help="calls of one client in a turn")
    parser.add_argument("--seconds", type=float, default=6.0, help="of many clients in a turn")
    parser.add_argument("--run", type=Path, help="keep the towers here, and take them from here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.run or Path(scratch)
        repository = make_repository(folder)
        bundle = Bundle(repository)
        records = read_captions(folder / "scenes").records
        texts = same_length(TextPath.from_bundle(bundle), records)
        files = jpegs(given.pictures, records)
        with TritonServer(repository, ports=Ports(0, 0, 0)) as server:
            sides = [
                *(Texts(bundle, repository, bucket, texts[bucket]) for bucket in BUCKETS),
                Pictures(bundle, repository, files),
            ]
            report = {
                "machine": machine(),
                "settings": {"triton": server.version, "onnxruntime": onnxruntime.__version__,
                             "clients": CLIENTS, "rounds": given.rounds, "jpegs": describe(files),
                             "towers": "PhoBERT-base size and ViT-S/14 size, INT8, random weights"},
                "measured": {
                    side.name: {
                        "one_client": one_client(side, server.url, given.rounds, given.calls),
                        "many_clients": many_clients(
                            side, server.url, given.rounds, given.seconds
                        ),
                    }
                    for side in sides
                },
            }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def make_repository(folder: Path) -> Path:
    """Towers of real size with random weights, in INT8, laid out for Triton; no gate."""
    repository = folder / "model_repository"
    if repository.is_dir():
        return repository
    write_scenes(folder / "scenes", "train", 128, seed=0)
    records = read_captions(folder / "scenes").records
    config = resolve(
        load_config(
            "vireo-base",
            ["image.weights=null", "image.freeze=false", "image.unfreeze_after=null",
             "text.weights=null", "text.tokenizer=bpe", "text.vocab_size=4000"],
        )
    )  # fmt: skip
    segmenter = load_segmenter("auto")
    captions = [" ".join(segmenter.segment(normalize(c))) for r in records for c in r.captions]
    text_path = TextPath(segmenter, make_tokenizer(config.text, captions))
    model = DualEncoder(
        config, text_path.tokenizer.vocab_size, text_path.tokenizer.pad_id, load=False
    )
    write_bundle(
        folder / "bundle", model.eval(), config, text_path, image_spec(config.image),
        metrics={}, provenance={"weights": "random"},
    )  # fmt: skip
    source = open_source(folder / "bundle")
    bundle = source.bundle.config
    calibration = Calibration.read(records, bundle, text_path)
    with publishing(repository) as draft:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            work = Path(scratch)
            exported = export_towers(
                source.text_tower, source.image_tower, work / "exported",
                size=bundle.image.size, buckets=bundle.text.buckets, pad_id=bundle.text.pad_id,
            )  # fmt: skip
            engines = {}
            for name, path in exported.items():
                optimise(path, work / "fp32" / name / path.name)
                made = next(
                    candidates(name, work / "fp32" / name / path.name, work / name, calibration)
                )
                engines[name] = made[0].path
            options = ServingOptions(response_cache=False)
            write_repository(draft, source.bundle, engines, options, records=records)
        (draft / "parity.json").write_text("{}\n")
    return repository


def same_length(text_path: TextPath, records: Sequence[CaptionedImage]) -> dict[int, list[str]]:
    """Texts by bucket: captions, and for longer buckets captions one after the other."""
    captions = [caption for record in records for caption in record.captions]
    longer = [" ".join(pair) for pair in itertools.pairwise(captions)]
    found: dict[int, list[str]] = {bucket: [] for bucket in BUCKETS}
    for text in [*captions, *longer]:
        ((_, ids),) = text_path.encode([text])
        if ids.shape[1] in found:
            found[ids.shape[1]].append(text)
    return found


def jpegs(folder: Path | None, records: Sequence[CaptionedImage]) -> list[bytes]:
    """The bytes of JPEG files: real ones, or scenes of 640 x 480."""
    if folder is not None:
        paths = [p for p in find_images(folder) if p.suffix.lower() in (".jpg", ".jpeg")]
        return [path.read_bytes() for path in paths[:200]]
    files = []
    for record in records:
        buffer = io.BytesIO()
        with Image.open(record.path) as picture:
            picture.convert("RGB").resize((640, 480)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def describe(files: Sequence[bytes]) -> dict[str, Any]:
    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    return {
        "count": len(files),
        "median_kilobytes": round(float(np.median([len(data) for data in files])) / 1000),
        "median_size": np.median(sizes, axis=0).astype(int).tolist(),
    }


class Texts:
    """Texts of one bucket."""

    kind = "text"

    def __init__(self, bundle: Bundle, repository: Path, bucket: int, texts: list[str]) -> None:
        self.name = f"text, bucket {bucket}"
        self.inputs: list[Any] = [text.encode() for text in texts]
        ((_, self._ids),) = TextPath.from_bundle(bundle).encode(texts)
        self.ways = in_process(model_file(repository, TEXT_MODEL), "input_ids")

    def values(self, start: int, count: int) -> np.ndarray:
        return self._ids[np.arange(start, start + count) % len(self._ids)]


class Pictures:
    """JPEG files."""

    kind = "image"

    def __init__(self, bundle: Bundle, repository: Path, files: list[bytes]) -> None:
        self.name = "picture"
        self.inputs: list[Any] = files
        self._spec = bundle.config.image
        self._pool = ThreadPoolExecutor()
        self.ways = in_process(model_file(repository, IMAGE_MODEL), "pixels")

    def values(self, start: int, count: int) -> np.ndarray:
        files = [self.inputs[n % len(self.inputs)] for n in range(start, start + count)]
        load: Callable[[bytes], np.ndarray] = lambda data: load_pixels(data, self._spec)  # noqa: E731
        return np.stack(list(self._pool.map(load, files)) if count > 1 else [load(files[0])])


def in_process(path: Path, name: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Ways to run a tower without a server."""
    session = onnxruntime.InferenceSession(path)
    return {
        "session": lambda values: session.run(["embedding"], {name: values})[0],
        "engine": OnnxEngine(path).run,
    }


def one_client(side: Texts | Pictures, url: str, rounds: int, calls: int) -> dict[str, Any]:
    """One request after the other, the ways in turns."""
    client = grpc.InferenceServerClient(url)
    tensors = [tensor_of(grpc, side.kind, value) for value in side.inputs]  # as the ids are ready
    outputs = [grpc.InferRequestedOutput("embedding")]

    def ask(number: int) -> np.ndarray:
        answer = client.infer(MODELS[side.kind], [tensors[number % len(tensors)]], outputs=outputs)
        return answer.as_numpy("embedding")

    calls_of: dict[str, Callable[[int], np.ndarray]] = {"triton": ask} | {
        way: lambda number, run=run: run(side.values(number, 1)) for way, run in side.ways.items()
    }
    for call in calls_of.values():  # INT8 rounds otherwise where operators are fused
        assert np.allclose(ask(0), call(0), atol=1e-2), "all must do the same"
    seconds: dict[str, list[float]] = {way: [] for way in calls_of}
    for turn in range(rounds):
        for way, call in calls_of.items():
            # The first of a turn find caches cold and threads asleep.
            for number in range(calls + 3):
                started = time.perf_counter()
                call(turn * calls + number)
                if number >= 3:
                    seconds[way].append(time.perf_counter() - started)
    client.close()
    found: dict[str, Any] = {way: percentiles(values) for way, values in seconds.items()}
    for way in side.ways:
        found[f"p50_of_{way}"] = round(found["triton"]["p50"] / found[way]["p50"], 3)
    return found


def many_clients(side: Texts | Pictures, url: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Rates of sixteen clients, and of each batch in process, in turns."""
    rates: dict[str, dict[Any, list[float]]] = {"triton": {CLIENTS: []}}
    rates |= {way: {batch: [] for batch in BATCHES} for way in side.ways}
    for _ in range(rounds):
        rates["triton"][CLIENTS].append(asyncio.run(ask_together(side, url, seconds)))
        for way, run in side.ways.items():
            for batch in BATCHES:
                run(side.values(0, batch))
                started, done = time.perf_counter(), 0
                while time.perf_counter() - started < seconds / len(BATCHES):
                    run(side.values(done, batch))
                    done += batch
                rates[way][batch].append(done / (time.perf_counter() - started))
    medians = {
        way: {size: round(float(np.median(values)), 1) for size, values in of.items()}
        for way, of in rates.items()
    }
    found: dict[str, Any] = {"per_second": {"triton": medians["triton"][CLIENTS]}}
    for way in side.ways:
        best = max(medians[way], key=medians[way].__getitem__)
        found["per_second"][way] = {f"batch {size}": rate for size, rate in medians[way].items()}
        found[f"best_of_{way}"] = f"batch {best}"
        found[f"of_best_{way}"] = round(medians["triton"][CLIENTS] / medians[way][best], 3)
    return found


async def ask_together(side: Texts | Pictures, url: str, seconds: float) -> float:
    client = grpc_aio.InferenceServerClient(url)
    model, tensors = (
        MODELS[side.kind],
        [tensor_of(grpc_aio, side.kind, value) for value in side.inputs],
    )
    outputs = [grpc_aio.InferRequestedOutput("embedding")]
    done = 0
    until = 0.0

    async def one(number: int) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await client.infer(model, [tensors[number % len(tensors)]], outputs=outputs)
            done += 1
            number += CLIENTS

    until = time.perf_counter() + min(1.0, seconds / 4)  # until batches have formed
    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    started, done = time.perf_counter(), 0
    until = started + seconds
    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    rate = done / (time.perf_counter() - started)
    await client.close()
    return rate


def tensor_of(module: Any, name: str, value: bytes) -> Any:
    tensor = module.InferInput(name, [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value]], dtype=object))
    return tensor


def show(report: dict[str, Any]) -> None:
    console = Console()
    computer = report["machine"]
    console.print(f"{computer['cpu']}, {computer['cores']} cores")
    table = Table("", "", "one client, p50 / p99, ms", "Triton's p50 of it",
                  "many clients, or batches, a second", "Triton's of it")  # fmt: skip
    for name, measured in report["measured"].items():
        one, many = measured["one_client"], measured["many_clients"]
        for way in ("triton", "session", "engine"):
            shown = f"{one[way]['p50']:.2f} / {one[way]['p99']:.2f}"
            if way == "triton":
                table.add_row(name, way, shown, "", str(many["per_second"][way]), "")
                continue
            best = many[f"best_of_{way}"]
            table.add_row(
                "", way, shown, f"{one[f'p50_of_{way}']:.2f}",
                f"{many['per_second'][way][best]} ({best})", f"{many[f'of_best_{way}']:.2f}",
            )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
