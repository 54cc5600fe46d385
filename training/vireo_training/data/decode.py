"""Images decoded once, however many epochs follow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import ImageSpec
from vireo_client.captions import CaptionedImage, Skip
from vireo_client.errors import DataError, ImageError, TrainingError
from vireo_client.images import load_pixels
from vireo_client.progress import track


class Decoded(NamedTuple):
    """The images that `decode_images` could read, and those it skipped."""

    records: list[CaptionedImage]
    pixels: npt.NDArray[np.uint8]
    """UINT8 `[N, 3, side, side]`, memory-mapped."""
    skipped: list[Skip]


def decode_images(
    records: Sequence[CaptionedImage], spec: ImageSpec, *, side: int, file: IO[bytes], label: str
) -> Decoded:
    """Decode images into a memory-mapped file, so that no epoch waits for a decoder.

    The image files are not read again: they may change or go while the run trains.

    Args:
        side: edge of the stored square; `spec.size` for evaluation, `spec.resize` where training
            crops at random.
        file: open for reading and writing, empty; it takes 3 x side x side bytes an image.
        label: the text of the progress bar.

    Raises:
        DataError: not one image can be read.
        TrainingError: the disk has no room.
    """
    stored = spec.model_copy(update={"size": side})
    _reserve(file, len(records) * 3 * side * side)
    pixels = map_pixels(file, len(records), side)
    readable: list[CaptionedImage] = []
    skipped: list[Skip] = []

    def attempt(record: CaptionedImage) -> npt.NDArray[np.uint8] | ImageError:
        try:
            return load_pixels(record.path, stored)
        except ImageError as error:
            return error

    with ThreadPoolExecutor() as pool:
        # `map` releases each result once it is taken: only those that wait are in memory.
        for record, result in zip(track(records, label), pool.map(attempt, records), strict=True):
            if isinstance(result, ImageError):
                skipped.append(Skip.of(record.path, result))
            else:
                pixels[len(readable)] = result
                readable.append(record)
    if not readable:
        raise DataError(f"no image could be read: {skipped[0]}")
    return Decoded(readable, pixels[: len(readable)], skipped)


def map_pixels(file: IO[bytes], count: int, side: int) -> npt.NDArray[np.uint8]:
    """Map a file of decoded images: UINT8 `[count, 3, side, side]`."""
    return np.memmap(file, dtype=np.uint8, mode="r+", shape=(count, 3, side, side))


def _reserve(file: IO[bytes], size: int) -> None:
    """Reserve the disk space now: a full disk under a mapped file kills the process by a signal."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    except OSError as error:
        raise TrainingError(
            f"{file.name}: no room for {size / 2**30:.2f} GiB of decoded images "
            f"({error.strerror}); free some, or give --out on another disk"
        ) from error
