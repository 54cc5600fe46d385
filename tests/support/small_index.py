"""Small indexes: a bundle without weights, and images with embeddings drawn from a seed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import (
    TOKENIZER_FILE,
    Bundle,
    BundleConfig,
    ImageSpec,
    TextSpec,
    write_config,
)
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.catalogue import CATALOGUE_FILE, Catalogue
from vireo_client.index.rows import FileStamp

DIM = 64


def unit(seed: int) -> npt.NDArray[np.float32]:
    """Draw a unit vector; two seeds' are far from alike."""
    vector = np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def new_image(path: str, seed: int, captions: int = 0, size: int = 1) -> NewImage:
    """Make an image whose embedding is `unit(seed)`, its captions' `unit(1000 * seed + i)`."""
    texts = tuple(f"{path} câu {i}" for i in range(captions))
    vectors = [unit(1000 * seed + i) for i in range(captions)]
    stamp = FileStamp(size, 1)
    return NewImage(path, "0" * 64, stamp, unit(seed), texts, np.stack(vectors) if texts else None)


def write_small_bundle(folder: Path, bundle_id: str = "small-bundle", **metrics: float) -> Bundle:
    """Write a bundle that has all that an index needs of it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = BundleConfig(
        bundle_id=bundle_id,
        embedding_dim=DIM,
        image=ImageSpec(size=8, resize=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        text=TextSpec(
            normalization="nfc",
            segmenter="vncorenlp",
            segmenter_files=("vi-vocab",),
            pad_id=0,
            vocab_size=10,
            buckets=(8,),
        ),
        model={},
        metrics=metrics,
    )
    write_config(folder, config)
    (folder / TOKENIZER_FILE).write_text("{}")
    (folder / "vi-vocab").write_text("con_chó")
    return Bundle(folder)


def write_index(folder: Path, bundle: Bundle, *images: NewImage) -> None:
    """Save images in an index, which is made if it is not there."""
    with IndexWriter(folder, bundle) as writer:
        writer.add(images)
        writer.save()


def segment_files(folder: Path) -> tuple[set[str], set[str]]:
    """Return the names of the files of the committed segments, and of those that are there."""
    with closing(Catalogue(folder / CATALOGUE_FILE)) as catalogue:
        current = {name for segment in catalogue.layout().segments for name in segment.files}
    return current, {path.name for path in folder.glob("segments/*")}


def best(index: Index, seed: int) -> tuple[str, float]:
    """Find path and score of the image nearest to `unit(seed)`."""
    match = index.search_images(unit(seed)[None], 1)[0][0]
    return match.path, round(match.score, 3)


def best_caption(index: Index, seed: int) -> tuple[str | None, float]:
    """Find text and score of the caption nearest to `unit(seed)`."""
    match = index.search_captions(unit(seed)[None], 1)[0][0]
    return match.caption, round(match.score, 3)
