"""Retrieval metrics of a bundle, whichever towers run it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, Skip, log_skips
from vireo_client.embedder import Embedder
from vireo_client.errors import DataError
from vireo_client.progress import progress_bar

from ..data.same_text import Texts, text_numbers
from ..data.split import Bounds, Split, split_by_image
from ..readers import Frame, read_data
from .metrics import CUTOFFS, retrieval_metrics

SPLITS = ("test", "validation", "train", "all")


@dataclass(frozen=True)
class CorpusEmbeddings:
    """The embeddings of images and of all their captions."""

    images: npt.NDArray[np.float32]
    """FP32 `[N, D]`."""
    texts: npt.NDArray[np.float32]
    """FP32 `[T, D]`."""
    owner: npt.NDArray[np.int64]
    """INT64 `[T]`: the row of `images` that each caption describes."""
    same: Texts
    """INT64 `[T]`: captions with equal texts have equal numbers."""
    records: list[CaptionedImage]
    """The N images that could be read."""
    skipped: list[Skip]


def default_split(
    bundle: Bundle,
    usual: str,
    data: str | Path | Frame | None = None,
    *,
    columns: Sequence[str] = (),
    file_format: str | None = None,
) -> str:
    """Return the split to measure on where none is asked for.

    That is `usual`, or "all" where the bundle records no split (others trained its model) and no
    image of `data` is named for `usual` either.
    """
    if bundle.config.provenance.get("split"):
        return usual
    if data is None:
        return "all"
    records = read_data(data, columns=columns, file_format=file_format).records
    return usual if any(record.split == usual for record in records) else "all"


def select_records(
    bundle: Bundle,
    data: str | Path | Frame,
    split: str,
    *,
    columns: Sequence[str] = (),
    file_format: str | None = None,
) -> list[CaptionedImage]:
    """Read a data set and return the records of `split`, divided as training divided them.

    Where the data names splits, these count. For a bundle that was trained before they did, its
    own division does: what it learnt from must not be measured.

    Args:
        columns, file_format: as `read_data` takes them.

    Raises:
        DataError: there is no data, or nothing in that split.
    """
    captions = read_data(data, columns=columns, file_format=file_format)
    log_skips(captions.skipped)
    records = captions.records
    if split == "all":
        return records
    division = bundle.config.provenance.get("split")
    if division is None:
        records = [record for record in records if record.split is not None]
        if not records:
            raise DataError(
                f"{bundle.folder}: records no split, and {data} names none; use --split all"
            )
        division = {"validation_fraction": 0.0, "test_fraction": 0.0, "seed": 0}
    elif not division.get("named"):
        records = [replace(record, split=None) for record in records]
    validation, test = division["validation_fraction"], division["test_fraction"]
    parts = split_by_image(
        records, validation, test, division["seed"],
        # Older bundles divided where the fractions lie between 0 and 1.
        Bounds(*(division.get("bounds") or (test, test + validation))),
    )  # fmt: skip
    log_skips(parts.unreadable)
    chosen: list[CaptionedImage] = getattr(parts, split)
    if not chosen:
        raise DataError(f"{data}: no image is in the {split} split; {_instead(parts, split)}")
    return chosen


def _instead(parts: Split, split: str) -> str:
    """Say which split can be measured instead, and what that would measure."""
    if split == "test" and parts.validation:
        return (
            f"measure the {len(parts.validation)} image(s) of validation, which chose the best "
            "epoch, with --split validation"
        )
    return "--split all measures all images, those that the model was trained on as well"


def embed_images(
    embedder: Embedder, records: Sequence[CaptionedImage], label: str = "embed images"
) -> tuple[list[CaptionedImage], npt.NDArray[np.float32], list[Skip]]:
    """Embed every image that can be read.

    Returns:
        The N records that could be read, their embeddings FP32 `[N, D]`, and the skipped ones.

    Raises:
        DataError: not one image can be read.
    """
    positions: list[int] = []
    embeddings: list[npt.NDArray[np.float32]] = []
    skipped: list[Skip] = []
    with progress_bar() as progress:
        task = progress.add_task(label, total=len(records))
        for batch in embedder.embed_image_stream(record.path for record in records):
            positions += batch.positions
            embeddings.append(batch.embeddings)
            skipped += batch.skipped
            progress.advance(task, len(batch.positions) + len(batch.skipped))
    if not positions:
        raise DataError(f"no image could be read: {skipped[0] if skipped else 'there are none'}")
    return [records[position] for position in positions], np.concatenate(embeddings), skipped


def captions_of(records: Sequence[CaptionedImage]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return all T captions, and INT64 `[T]`, the record of each."""
    texts = [caption for record in records for caption in record.captions]
    return texts, np.repeat(np.arange(len(records)), [len(record.captions) for record in records])


def embed_corpus(embedder: Embedder, records: Sequence[CaptionedImage]) -> CorpusEmbeddings:
    """Embed every image and caption; images that cannot be read are left out, by name.

    Raises:
        DataError: not one image can be read.
    """
    usable, images, skipped = embed_images(embedder, records)
    captions, owner = captions_of(usable)
    texts = embedder.embed_texts(captions, allow_unknown=True)
    return CorpusEmbeddings(images, texts, owner, text_numbers(captions), usable, skipped)


def evaluate(
    embedder: Embedder, records: Sequence[CaptionedImage], cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, Any]:
    """Return the metrics of both directions and of chance, and the skipped images.

    Args:
        cutoffs: each k of recall@k and mAP@k.
    """
    corpus = embed_corpus(embedder, records)
    log_skips(corpus.skipped)
    metrics = retrieval_metrics(corpus.images, corpus.texts, corpus.owner, corpus.same, cutoffs)
    return metrics | {
        "towers": embedder.towers.name,
        "pictures": len(corpus.images),
        "captions": len(corpus.texts),
        "skipped": [str(skip) for skip in corpus.skipped],
    }
