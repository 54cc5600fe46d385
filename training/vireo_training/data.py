"""Captioned pictures to batches: split by picture, decoded once, several captions each."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from vireo_client.bundle import ImageSpec, file_sha256
from vireo_client.captions import CaptionedImage, Skip
from vireo_client.errors import DataError, ImageError
from vireo_client.images import load_pixels
from vireo_client.progress import track

T = TypeVar("T")


class Split(NamedTuple):
    """Records of one data set, divided by picture."""

    train: list[CaptionedImage]
    validation: list[CaptionedImage]
    test: list[CaptionedImage]
    unreadable: list[Skip]
    """Pictures whose files cannot be read: on no side."""


def split_by_picture(
    records: Sequence[CaptionedImage], validation: float, test: float, seed: int
) -> Split:
    """Divides records so that no picture is on two sides.

    A picture's side follows from a hash of its bytes and `seed`: copies under other names stay
    together, and pictures added later move none of the old ones.

    Args:
        records: captioned pictures.
        validation, test: the fractions that go there, approximately; the rest trains.
        seed: another seed is another division.
    """
    split = Split([], [], [], [])
    for record in records:
        try:
            key = f"{seed}:{file_sha256(record.path)}".encode()
        except OSError as error:
            split.unreadable.append(Skip(str(record.path), str(error.strerror)))
            continue
        draw = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
        if draw < test:
            split.test.append(record)
        elif draw < test + validation:
            split.validation.append(record)
        else:
            split.train.append(record)
    return split


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures with their captions' ids."""

    pixels: npt.NDArray[np.uint8]
    """UINT8 `[N, 3, side, side]`, memory-mapped."""
    ids: list[list[list[int]]]
    """Token ids by picture and caption."""

    def __len__(self) -> int:
        return len(self.ids)


class Decoded(NamedTuple):
    """What `decode_pictures` could read, and what not."""

    records: list[CaptionedImage]
    pixels: npt.NDArray[np.uint8]
    skipped: list[Skip]


def decode_pictures(
    records: Sequence[CaptionedImage], spec: ImageSpec, *, side: int, scratch: Path, label: str
) -> Decoded:
    """Decodes pictures once, however many epochs follow.

    The pixels go to an unlinked temporary file that is memory-mapped, so memory stays small and
    nothing is left behind.

    Args:
        side: edge of the stored square; `spec.size` for evaluation, `spec.resize` where training
            crops at random.
        scratch: folder for the temporary file.
        label: what the progress bar says.

    Raises:
        DataError: not one picture can be read.
    """
    stored = spec.model_copy(update={"size": side})
    with tempfile.TemporaryFile(dir=scratch) as file:
        shape = (len(records), 3, side, side)
        pixels = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    kept: list[CaptionedImage] = []
    skipped: list[Skip] = []

    def attempt(record: CaptionedImage) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return load_pixels(record.path, stored)
        except ImageError as error:
            return error

    with ThreadPoolExecutor() as pool:
        # `map` lets go of each result once it is taken: only those that wait are in memory.
        for record, result in zip(track(records, label), pool.map(attempt, records), strict=True):
            if isinstance(result, ImageError):
                skipped.append(Skip.of(record.path, result))
            else:
                pixels[len(kept)] = result
                kept.append(record)
    if not kept:
        raise DataError(f"no picture could be read: {skipped[0]}")
    return Decoded(kept, pixels[: len(kept)], skipped)


def regroup(flat: Sequence[T], records: Sequence[CaptionedImage]) -> list[list[T]]:
    """Gives one list a record from one item a caption."""
    items = iter(flat)
    return [[next(items) for _ in record.captions] for record in records]


class Batch(NamedTuple):
    """What a training step takes."""

    pixels: Tensor
    """UINT8 `[B, 3, side, side]`."""
    input_ids: Tensor
    """INT32 `[T, L]`, padded to the longest: buckets only matter to engines."""
    picture: Tensor
    """INT64 `[T]`: the row of `pixels` that each caption describes."""


def training_batches(
    pictures: Pictures,
    pad_id: int,
    *,
    batch_size: int,
    captions_per_picture: int,
    rng: np.random.Generator,
) -> Iterator[Batch]:
    """Yields one epoch: pictures in random order, none twice, with captions drawn at random.

    There is no short last batch: what would be in it waits for another epoch's order.
    """
    order = rng.permutation(len(pictures))
    size = min(batch_size, len(pictures))
    for start in range(0, len(order) - size + 1, size):
        rows = order[start : start + size]
        chosen: list[list[int]] = []
        picture: list[int] = []
        for row, index in enumerate(rows):
            captions = pictures.ids[index]
            count = min(captions_per_picture, len(captions))
            chosen += [captions[c] for c in rng.choice(len(captions), count, replace=False)]
            picture += [row] * count
        yield Batch(
            torch.from_numpy(np.asarray(pictures.pixels[rows])),
            torch.from_numpy(_pad_together(chosen, pad_id)),
            torch.tensor(picture),
        )


def _pad_together(ids: list[list[int]], pad_id: int) -> npt.NDArray[np.int32]:
    length = max(len(row) for row in ids)
    padded = np.full((len(ids), length), pad_id, dtype=np.int32)
    for row, values in enumerate(ids):
        padded[row, : len(values)] = values
    return padded
