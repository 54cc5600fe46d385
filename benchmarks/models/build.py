"""Builds what is measured, once, in a folder that later runs take it from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.embedder import Embedder
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.neutral import write_beside_engines
from vireo_client.index.rows import FileStamp
from vireo_client.repository import ENGINE_FILE, IMAGE_MODEL, PARITY_FILE, TEXT_MODEL, model_file
from vireo_client.text.normalize import normalize
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import load_segmenter
from vireo_client.towers.onnx import OnnxTowers

from ..jobs import scripts
from .captions import Captions, load_captions
from .sizes import Pair

FP32, INT8 = "fp32", "int8"
_CAPTIONS_TO_LEARN = 2000
_SCENES = 128


@dataclass(frozen=True)
class Built:
    """A pair of towers: bundle, engines, and a model repository that Triton serves."""

    folder: Path

    @property
    def bundle(self) -> Path:
        """The bundle's folder: what PyTorch loads."""
        return self.folder / "bundle"

    def repository(self, precision: str) -> Path:
        """Return the model repository of a precision."""
        return self.folder / precision

    def engine(self, tower: str, precision: str) -> Path:
        """Return the ONNX file of a tower, `text` or `image`."""
        model = TEXT_MODEL if tower == "text" else IMAGE_MODEL
        return model_file(self.repository(precision), model)


def scenes(work: Path) -> Path:
    """Return the folder of generated scenes, made unless it is there."""
    folder = work / "scenes"
    if not (folder / ".complete").is_file():
        from vireo_training.data.scenes import write_scenes

        shutil.rmtree(folder, ignore_errors=True)
        write_scenes(folder, "train", _SCENES, seed=0)
        (folder / ".complete").touch()
    return folder


def captions(work: Path) -> Captions:
    """Return the captions that are asked."""
    return load_captions(scenes(work))


def build(pair: Pair, work: Path) -> Built:
    """Return a pair of towers with random weights in FP32 and INT8, built unless it is there.

    No parity gate runs: random weights have no recall to lose.
    """
    # The tokenizer is made from the captions that are asked.
    built = Built(work / "models" / f"{pair.name}-{captions(work).kind}")
    if not (built.folder / ".complete").is_file():
        shutil.rmtree(built.folder, ignore_errors=True)
        built.folder.mkdir(parents=True)
        _write_bundle(pair, built, work)
        _write_repositories(built, work)
        (built.folder / ".complete").touch()
    return built


def _write_bundle(pair: Pair, built: Built, work: Path) -> None:
    import torch
    from vireo_training.models.bundle_writer import write_bundle
    from vireo_training.models.dual_encoder import DualEncoder
    from vireo_training.models.resolve import image_spec, resolve
    from vireo_training.models.tokenizer import make_tokenizer
    from vireo_training.presets import load_config

    torch.manual_seed(0)
    config = resolve(load_config("vireo-base", pair.overrides()))
    segmenter = load_segmenter("auto")
    texts = captions(work).drawn(_CAPTIONS_TO_LEARN)
    segmented = [" ".join(segmenter.segment(normalize(text))) for text in texts]
    path = TextPath(segmenter, make_tokenizer(config.text, segmented))
    model = DualEncoder(config, path.tokenizer.vocab_size, path.tokenizer.pad_id, load=False)
    write_bundle(
        built.bundle, model.eval(), config, path, image_spec(config.image),
        metrics={}, provenance={"weights": "random"},
    )  # fmt: skip


def _write_repositories(built: Built, work: Path) -> None:
    from vireo_export.onnx.export import export_towers
    from vireo_export.onnx.optimise import optimise
    from vireo_export.precision.calibration import Calibration
    from vireo_export.precision.candidates import candidates
    from vireo_serving.configs.triton_config import ServingOptions
    from vireo_serving.repository.publish import publishing, write_repository
    from vireo_training.sources import open_source

    records = read_captions(scenes(work)).records
    source = open_source(built.bundle)
    config = source.bundle.config
    text_path = TextPath.from_bundle(source.bundle)
    calibration = Calibration.read(records, config, text_path)
    # Activations of a random CNN all but vanish, and differ so much between batches that the
    # histogram of several would have bins without number.
    first = {model: batches[:1] for model, batches in calibration.batches.items()}
    calibration = replace(calibration, batches=first)
    scratch = built.folder / "scratch"
    exported = export_towers(
        source.text_tower, source.image_tower, scratch / "exported",
        size=config.image.size, buckets=config.text.buckets, pad_id=config.text.pad_id,
    )  # fmt: skip
    engines: dict[str, dict[str, Path]] = {FP32: {}, INT8: {}}
    for name, path in exported.items():
        engine = scratch / FP32 / name / ENGINE_FILE
        optimise(path, engine)
        engines[FP32][name] = engine
        first_round = next(candidates(name, engine, scratch / INT8 / name, calibration))
        engines[INT8][name] = first_round[0].path
    # Every text is computed: a cache would answer for the tower.
    options = ServingOptions(response_cache=False)
    for precision in (INT8, FP32):
        towers = engines[precision][TEXT_MODEL], engines[precision][IMAGE_MODEL]
        with publishing(built.repository(precision)) as draft:
            # Indexing takes the neutral queries' embeddings from there, as after an export.
            with Embedder(source.bundle, OnnxTowers(*towers)) as embedder:
                write_beside_engines(draft, source.bundle, embedder.embed_texts)
            write_repository(draft, source.bundle, engines[precision], options, records=records)
            (draft / PARITY_FILE).write_text("{}\n")
    shutil.rmtree(scratch)


@dataclass(frozen=True)
class Corpus:
    """Vectors that are spread as embeddings of photos are, and an index of them."""

    vectors: Path
    """NPY, FP32 `[N, D]`, unit length."""
    index: Path


def corpus(bundle: Bundle, rows: int, work: Path) -> Corpus:
    """Return `rows` vectors and an index of the kind `auto`, made for a bundle.

    The vectors are those of `benchmarks/spread.py`, cut to the bundle's dimension.
    """
    dim = bundle.config.embedding_dim
    folder = work / "corpora" / f"{rows}x{dim}-{bundle.bundle_id[:12]}"
    found = Corpus(folder / "vectors.npy", folder / "index")
    if (folder / ".complete").is_file():
        return found
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    drawn = scripts.module("spread").draw(rows, work / "corpora" / f"{rows}.npy")
    vectors = np.array(drawn[:, :dim])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(found.vectors, vectors)
    with IndexWriter(found.index, bundle) as writer:
        for start in range(0, rows, 10_000):
            part = enumerate(vectors[start : start + 10_000], start)
            writer.add([NewImage(f"{n}.jpg", "", FileStamp(0, 0), vector) for n, vector in part])
        writer.save()
        writer.compact()
    with Index(found.index, bundle) as index:
        index.search_images(vectors[:1], 1)  # it opens
    (folder / ".complete").touch()
    return found
