"""From files of captions to pixels and ids, for each part of the split."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from vireo_client.bundle import ImageSpec
from vireo_client.captions import CaptionedImage, Skip, log_skips
from vireo_client.errors import DataError
from vireo_client.text.pipeline import TextPath, WordPath
from vireo_client.text.segment import load_segmenter

from ..config import TrainConfig
from ..models.resolve import image_spec
from ..models.tokenizer import make_tokenizer
from ..readers import Frame, Mixture, read_data, read_mixture
from ..readers.captions_only import read_caption_groups
from ..readers.frame import NAME as FRAME_NAME
from .captions import (
    Captions,
    captions_without_images,
    class_captions,
    image_captions,
    validation_captions,
)
from .class_names import read_class_names
from .decode import Decoded, decode_images, map_pixels
from .split import Split, hold_out, split_by_image
from .text_augment import variants


@dataclass(frozen=True)
class Subset:
    """One part of the split: images decoded, captions as ids."""

    records: list[CaptionedImage]
    pixels: npt.NDArray[np.uint8]
    """UINT8 `[N, 3, side, side]`, memory-mapped."""
    captions: Captions

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Prepared:
    """The data that a run trains and validates on."""

    train: Subset
    mixture: Mixture
    """The records of `train` with their weights."""
    validation: Subset | None
    others: Captions | None
    """Captions that have no image."""
    classes: Captions | None
    """Names of the classes of the image tower's classifier."""
    text_path: TextPath
    image_spec: ImageSpec
    image_counts: dict[str, int]
    """The number of images in each part of the split."""
    fractions: dict[str, Any]
    """The settings that divide the data in the same way again."""


def prepare(
    config: TrainConfig,
    sources: Sequence[str | Frame],
    *,
    validation: str | Frame | None,
    captions: Sequence[Path],
    scratch: Path,
    columns: Sequence[str] = (),
    file_format: str | None = None,
    text_path: TextPath | None = None,
) -> Prepared:
    """Read and divide the data, decode its images and turn its captions into ids.

    Args:
        config: resolved settings.
        sources: each `PATH[@IMAGES][=WEIGHT]` or a data frame, as `read_mixture` takes them.
        validation: data to validate on, instead of a part of `sources`.
        captions: files of captions without images (`read_caption_groups`).
        scratch: folder for decoded images; nothing stays there.
        columns: names for the columns of tables without a header.
        file_format: as `read_data` takes it, for `sources` and `validation`.
        text_path: that of a model to fine-tune, instead of what `config.text` describes.

    Raises:
        DataError: no usable captions or images, or fewer than two to train on.
        TrainingError: no room for the decoded images.
    """
    read = read_mixture(sources, columns=columns, file_format=file_format)
    log_skips(read.skipped)
    split = _divide(config, read, validation, columns, file_format)
    if len(split.train) < 2:
        named = ", ".join(each if isinstance(each, str) else FRAME_NAME for each in sources)
        raise DataError(f"{named}: {len(split.train)} image(s) to train on; at least 2 are needed")

    # Files and segmenter first: an error then comes before hours of decoding.
    groups = _groups_without_images(captions)
    names: list[tuple[str, ...]] = []
    if config.class_names is not None and config.warm_start:
        names = read_class_names(config.class_names)
    words = text_path.words if text_path else WordPath(load_segmenter(config.text.segmenter))

    # Images. Random crops need the margin around the centre.
    spec = image_spec(config.image)
    side = spec.resize if config.augment.crop else spec.size
    decoded = _decode_once(split.train, spec, side, scratch, "training")
    held = (
        _decode_once(split.validation, spec, spec.size, scratch, "validation")
        if split.validation
        else None
    )
    log_skips(split.unreadable + decoded.skipped + (held.skipped if held else []))

    # Captions: all words that the tokenizer may learn from, then ids.
    ways = variants(config.text_augment)
    described = image_captions(words, decoded.records, ways)
    without_images = captions_without_images(words, groups, ways)
    classes = class_captions(words, names, ways)
    learnt = [
        text
        for way in range(len(ways))
        for kind in (described, without_images, classes)
        for text in kind.variants[way]
    ]
    tokenizer = text_path.tokenizer if text_path else make_tokenizer(config.text, learnt)

    weights = {r.path: w for r, w in zip(read.records, read.weights, strict=True)}
    return Prepared(
        train=Subset(decoded.records, decoded.pixels, described.ids(tokenizer)),
        mixture=replace(
            read,
            records=decoded.records,
            weights=np.array([weights[record.path] for record in decoded.records]),
        ),
        validation=Subset(
            held.records, held.pixels, validation_captions(words, held.records).ids(tokenizer)
        ) if held is not None else None,
        others=without_images.ids(tokenizer) if groups else None,
        classes=classes.ids(tokenizer) if names else None,
        text_path=text_path or TextPath(words.segmenter, tokenizer),
        image_spec=spec,
        image_counts={"train": len(decoded.records),
                      "validation": len(held.records) if held is not None else 0,
                      "test": len(split.test)},
        fractions={"validation_fraction": config.validation_fraction if validation is None else 0.0,
                   "test_fraction": config.test_fraction if validation is None else 0.0,
                   "seed": config.seed,
                   # Bundles without bounds divided at the fractions themselves.
                   "bounds": split.bounds,
                   # Splits that the data names were kept. Bundles without this ignored them.
                   "named": True},
    )  # fmt: skip


def source_name(source: str | Frame) -> str:
    """Return the last part of a source's path, or `FRAME_NAME`."""
    return Path(source).name if isinstance(source, str) else FRAME_NAME


def _divide(
    config: TrainConfig,
    read: Mixture,
    validation: str | Frame | None,
    columns: Sequence[str],
    file_format: str | None,
) -> Split:
    """Divide the records by image, or hold out the data that `validation` names."""
    if validation is None:
        return split_by_image(
            read.records, config.validation_fraction, config.test_fraction, config.seed
        )
    held = read_data(validation, columns=columns, file_format=file_format)
    log_skips(held.skipped)
    return hold_out(read.records, held.records)


def _groups_without_images(files: Sequence[Path]) -> list[tuple[str, ...]]:
    """Read the groups of captions of all files."""
    groups: list[tuple[str, ...]] = []
    for path in files:
        read = read_caption_groups(path)
        log_skips(read.skipped)
        groups += read.groups
    return groups


def _decode_once(
    records: list[CaptionedImage], spec: ImageSpec, side: int, scratch: Path, part: str
) -> Decoded:
    """Decode images in one process of each machine; the others map the file that it wrote."""
    state = PartialState()
    label = f"decode {part} images"
    if state.num_processes == 1:
        with tempfile.TemporaryFile(dir=scratch) as file:
            return decode_images(records, spec, side=side, file=file, label=label)
    # Machines may share the folder.
    path = scratch / f".pixels-{part}-{platform.node()}"
    shared: list[tuple[list[CaptionedImage], list[Skip]] | None] = [None]
    decoded: Decoded | None = None
    try:
        if state.is_local_main_process:
            with path.open("w+b") as file:
                decoded = decode_images(records, spec, side=side, file=file, label=label)
            shared = [(decoded.records, decoded.skipped)]
        broadcast_object_list(shared)  # it also waits until the file is there
        if decoded is None:
            assert shared[0] is not None
            readable, skipped = shared[0]
            with path.open("r+b") as file:
                pixels = map_pixels(file, len(records), side)[: len(readable)]
                decoded = Decoded(readable, pixels, skipped)
        state.wait_for_everyone()
    finally:
        if state.is_local_main_process:
            path.unlink(missing_ok=True)
    return decoded
