"""Towers of real size behind Triton, and the requests and clients that load them.

`serving.py` and `queue_limits.py` share these. The towers have the sizes of `vireo-base`
(PhoBERT-base, ViT-S/14) and random weights: only time is measured. Texts become PhoBERT's own ids
where its tokenizer lies in the data folder (`VIREO_DATA`); the small one that is trained in its
place cuts words into more tokens.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc.aio as grpc_aio
from support import data_folder
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, read_captions
from vireo_client.embedder import Embedder
from vireo_client.images import load_pixels
from vireo_client.index.neutral import write_beside_engines
from vireo_client.repository import IMAGE_MODEL, PARITY_FILE, TEXT_MODEL, model_file
from vireo_client.text.normalize import normalize
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import load_segmenter
from vireo_client.towers.engine import OnnxEngine
from vireo_client.towers.onnx import OnnxTowers
from vireo_export.onnx.export import export_towers
from vireo_export.onnx.optimise import optimise
from vireo_export.precision.calibration import Calibration
from vireo_export.precision.candidates import candidates
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.repository.publish import publishing, write_repository
from vireo_training.data.scenes import write_scenes
from vireo_training.models.bundle_writer import write_bundle
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.models.resolve import image_spec, resolve
from vireo_training.models.tokenizer import make_tokenizer
from vireo_training.presets import load_config
from vireo_training.sources import open_source

BUCKETS = (16, 32)
CLIENTS = 16
"""Clients that ask at once."""
MODELS = {"text": "embed_text", "image": "embed_image"}
Run = Callable[[np.ndarray], np.ndarray]


def make_repository(folder: Path) -> Path:
    """Write a model repository of towers of real size with random weights, in INT8.

    No parity gate runs: random weights have no recall to lose. A repository that is there stays.
    """
    repository = folder / "model_repository"
    if repository.is_dir():
        return repository
    write_scenes(folder / "scenes", "train", 128, seed=0)
    records = read_captions(folder / "scenes").records
    phobert = data_folder() / "phobert"
    tokenizer = phobert if phobert.is_dir() else "bpe"
    config = resolve(
        load_config(
            "vireo-base",
            ["image.weights=null", "image.freeze=false", "image.unfreeze_after=null",
             "text.weights=null", f"text.tokenizer={tokenizer}", "text.vocab_size=4000"],
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
                quantised = next(
                    candidates(name, work / "fp32" / name / path.name, work / name, calibration)
                )
                engines[name] = quantised[0].path
            towers = engines[TEXT_MODEL], engines[IMAGE_MODEL]
            with Embedder(source.bundle, OnnxTowers(*towers)) as embedder:
                write_beside_engines(draft, source.bundle, embedder.embed_texts)
            options = ServingOptions(response_cache=False)  # each text is computed
            write_repository(draft, source.bundle, engines, options, records=records)  # moves them
        (draft / PARITY_FILE).write_text("{}\n")
    return repository


def texts_by_bucket(text_path: TextPath, records: Sequence[CaptionedImage]) -> dict[int, list[str]]:
    """Return texts by bucket: captions, and for longer buckets two captions joined."""
    captions = [caption for record in records for caption in record.captions]
    longer = [" ".join(pair) for pair in itertools.pairwise(captions)]
    texts: dict[int, list[str]] = {bucket: [] for bucket in BUCKETS}
    for text in [*captions, *longer]:
        ((_, ids),) = text_path.encode([text])
        if ids.shape[1] in texts:
            texts[ids.shape[1]].append(text)
    return texts


class TextRequests:
    """Texts of one bucket: as requests, and as ready ids."""

    kind = "text"

    def __init__(self, bundle: Bundle, repository: Path, bucket: int, texts: list[str]) -> None:
        self.name = f"text, bucket {bucket}"
        self.inputs: list[Any] = [text.encode() for text in texts]
        ((_, self._ids),) = TextPath.from_bundle(bundle).encode(texts)
        self.runs = in_process(model_file(repository, TEXT_MODEL), "input_ids")

    def values(self, start: int, count: int) -> np.ndarray:
        """Return ids of `count` texts from number `start` on, INT32 `[N, L]`."""
        return self._ids[np.arange(start, start + count) % len(self._ids)]


class ImageRequests:
    """JPEG files: as requests, and as pixels that are decoded here."""

    kind = "image"

    def __init__(self, bundle: Bundle, repository: Path, files: list[bytes]) -> None:
        self.name = "picture"  # a key of the result file
        self.inputs: list[Any] = files
        self._spec = bundle.config.image
        self._pool = ThreadPoolExecutor()
        self.runs = in_process(model_file(repository, IMAGE_MODEL), "pixels")

    def values(self, start: int, count: int) -> np.ndarray:
        """Decode `count` files from number `start` on, UINT8 `[N, 3, H, W]`."""
        files = [self.inputs[n % len(self.inputs)] for n in range(start, start + count)]
        load: Callable[[bytes], np.ndarray] = lambda data: load_pixels(data, self._spec)  # noqa: E731
        return np.stack(list(self._pool.map(load, files)) if count > 1 else [load(files[0])])


Requests = TextRequests | ImageRequests


def in_process(path: Path, name: str) -> dict[str, Run]:
    """Return two functions that run a tower without a server: a plain session, and our engine."""
    session = onnxruntime.InferenceSession(path)
    return {
        "session": lambda values: session.run(["embedding"], {name: values})[0],
        "engine": OnnxEngine(path).run,
    }


async def ask_together(requests: Requests, url: str, seconds: float) -> float:
    """Return the requests a second of `CLIENTS` clients that never pause."""
    client = grpc_aio.InferenceServerClient(url)
    model, tensors = (
        MODELS[requests.kind],
        [tensor_of(grpc_aio, requests.kind, value) for value in requests.inputs],
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
    start, done = time.perf_counter(), 0
    until = start + seconds
    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    rate = done / (time.perf_counter() - start)
    await client.close()
    return rate


def tensor_of(module: Any, name: str, value: bytes) -> Any:
    """Return one string or file as an input tensor of `module`, Triton's client."""
    tensor = module.InferInput(name, [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value]], dtype=object))
    return tensor
