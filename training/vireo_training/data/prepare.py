"""From captions files to what the loop draws from: pixels and ids, on every side of the split."""

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
from vireo_client.progress import track
from vireo_client.text.normalize import normalize
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import Segmenter, load_segmenter

from ..config import TrainConfig
from ..models.resolve import image_spec
from ..models.tokenizer import make_tokenizer
from ..readers import Mixture, read_data, read_mixture
from ..readers.captions_only import read_caption_groups
from .batches import Captions, Ragged
from .class_names import read_class_names
from .decode import Decoded, decode_pictures, map_pixels
from .split import hold_out, split_by_picture
from .text_augment import apply, variants


@dataclass(frozen=True)
class Side:
    """One side of the split, decoded and tokenised."""

    records: list[CaptionedImage]
    pixels: npt.NDArray[np.uint8]
    """UINT8 `[N, 3, side, side]`, memory-mapped."""
    captions: Captions

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Prepared:
    """All that a run trains and validates on."""

    train: Side
    mixture: Mixture
    """The records of `train` with their weights."""
    validation: Side | None
    others: Captions | None
    """Captions that have no picture."""
    classes: Captions | None
    """Names of the classes of the image tower's classifier."""
    text_path: TextPath
    image_spec: ImageSpec
    pictures: dict[str, int]
    """How many there are on each side."""
    fractions: dict[str, Any]
    """What divides the data in the same way again."""


def prepare(
    config: TrainConfig,
    sources: Sequence[str],
    *,
    validation: str | None,
    captions: Sequence[Path],
    scratch: Path,
) -> Prepared:
    """Reads, divides, decodes, segments and tokenises.

    Args:
        config: resolved settings.
        sources: each `PATH[@PICTURES][=WEIGHT]`, as `read_mixture` takes them.
        validation: data to validate on, instead of a part of `sources`.
        captions: files of captions without pictures (`read_caption_groups`).
        scratch: folder for decoded pictures; nothing stays there.

    Raises:
        DataError: no usable captions or pictures, or fewer than two to train on.
        TrainingError: no room for the decoded pictures.
    """
    read = read_mixture(sources)
    log_skips(read.skipped)
    if validation is None:
        split = split_by_picture(
            read.records, config.validation_fraction, config.test_fraction, config.seed
        )
    else:
        held = read_data(validation)
        log_skips(held.skipped)
        split = hold_out(read.records, held.records)
    name = ", ".join(sources)
    if len(split.train) < 2:
        raise DataError(f"{name}: {len(split.train)} picture(s) to train on; at least 2 are needed")

    # What fails, fails before hours of decoding.
    groups: list[tuple[str, ...]] = []
    for path in captions:
        found = read_caption_groups(path)
        log_skips(found.skipped)
        groups += found.groups
    classes: list[tuple[str, ...]] = []
    if config.class_names is not None and config.warm_start:
        classes = read_class_names(config.class_names)
    segmenter = load_segmenter(config.text.segmenter)

    spec = image_spec(config.image)
    # Random crops need the margin around the centre.
    side = spec.resize if config.augment.crop else spec.size
    decoded = _decode_once(split.train, spec, side, scratch, "training")
    held_out = (
        _decode_once(split.validation, spec, spec.size, scratch, "validation")
        if split.validation
        else None
    )
    texts = [caption for record in decoded.records for caption in record.captions]
    extra = [caption for group in groups for caption in group]
    named = [name for names in classes for name in names]
    ways = variants(config.text_augment)
    segmented = [
        _segment(segmenter, [apply(way, t) for t in texts + extra + named], "segment captions")
        for way in ways
    ]
    tokenizer = make_tokenizer(config.text, [text for way in segmented for text in way])
    ids = [tokenizer.ids(way) for way in segmented]
    ends = np.cumsum([len(texts), len(extra), len(named)])
    text_path = TextPath(segmenter, tokenizer)
    held_side = None
    if held_out is not None:
        texts_held = [caption for record in held_out.records for caption in record.captions]
        plain = tokenizer.ids(_segment(segmenter, texts_held, "segment validation captions"))
        held_side = Side(
            held_out.records,
            held_out.pixels,
            Captions.of(_counts(held_out.records), [Ragged.of(plain)]),
        )
    log_skips(split.unreadable + decoded.skipped + (held_out.skipped if held_out else []))
    weights = {r.path: w for r, w in zip(read.records, read.weights, strict=True)}
    return Prepared(
        train=Side(
            decoded.records,
            decoded.pixels,
            Captions.of(
                _counts(decoded.records), [Ragged.of(way[: len(texts)]) for way in ids]
            ),
        ),
        mixture=replace(
            read,
            records=decoded.records,
            weights=np.array([weights[record.path] for record in decoded.records]),
        ),
        validation=held_side,
        others=Captions.of([len(group) for group in groups],
                           [Ragged.of(way[ends[0] : ends[1]]) for way in ids]) if groups else None,
        classes=Captions.of([len(names) for names in classes],
                            [Ragged.of(way[ends[1] :]) for way in ids]) if classes else None,
        text_path=text_path,
        image_spec=spec,
        pictures={"train": len(decoded.records),
                  "validation": len(held_out.records) if held_out else 0,
                  "test": len(split.test)},
        fractions={"validation_fraction": config.validation_fraction if validation is None else 0.0,
                   "test_fraction": config.test_fraction if validation is None else 0.0,
                   "seed": config.seed},
    )  # fmt: skip


def _counts(records: Sequence[CaptionedImage]) -> list[int]:
    return [len(record.captions) for record in records]


def _segment(segmenter: Segmenter, texts: list[str], label: str) -> list[str]:
    return [" ".join(segmenter.segment(normalize(text))) for text in track(texts, label)]


def _decode_once(
    records: list[CaptionedImage], spec: ImageSpec, side: int, scratch: Path, what: str
) -> Decoded:
    """Decodes pictures in one process of each machine; the others map what it wrote."""
    state = PartialState()
    label = f"decode {what} pictures"
    if state.num_processes == 1:
        with tempfile.TemporaryFile(dir=scratch) as file:
            return decode_pictures(records, spec, side=side, file=file, label=label)
    # Machines may share the folder.
    path = scratch / f".pixels-{what}-{platform.node()}"
    told: list[tuple[list[CaptionedImage], list[Skip]] | None] = [None]
    decoded: Decoded | None = None
    try:
        if state.is_local_main_process:
            with path.open("w+b") as file:
                decoded = decode_pictures(records, spec, side=side, file=file, label=label)
            told = [(decoded.records, decoded.skipped)]
        broadcast_object_list(told)  # it also waits until the file is there
        if decoded is None:
            assert told[0] is not None
            kept, skipped = told[0]
            with path.open("r+b") as file:
                decoded = Decoded(kept, map_pixels(file, len(records), side)[: len(kept)], skipped)
        state.wait_for_everyone()
    finally:
        if state.is_local_main_process:
            path.unlink(missing_ok=True)
    return decoded
