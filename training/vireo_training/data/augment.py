"""Random views of training images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..config import ImageAugmentation
from ..models.torchvision_ops import ensure_torchvision


def make_augmentation(
    settings: ImageAugmentation, size: int
) -> Callable[[Tensor, np.random.Generator], Tensor]:
    """Return the function that turns stored pixels into training views.

    The function takes UINT8 `[B, 3, side, side]` and the generator of all its choices, and returns
    UINT8 `[B, 3, size, size]`. Only `crop` changes the size: without it `side` is `size`.
    The choices are distributed as those of torchvision's RandomResizedCrop, RandomHorizontalFlip,
    RandomRotation, ColorJitter, RandomGrayscale and RandomErasing. Those classes draw from torch's
    global generator, which belongs to the main thread's dropout: batches made ahead in another
    thread would then differ from run to run.
    """
    if not settings.changes:
        return lambda pixels, rng: pixels
    ensure_torchvision()
    from torchvision.transforms.v2 import InterpolationMode, functional

    colour_changes = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
    )

    def view(image: Tensor, rng: np.random.Generator) -> Tensor:
        if settings.crop:
            box = _rectangle(rng, image.shape[-1], area=(settings.crop, 1.0), ratio=4 / 3)
            image = functional.resized_crop(image, *box, [size, size], antialias=True)
        if rng.random() < settings.flip:
            image = functional.horizontal_flip(image)
        if settings.rotate:
            angle = rng.uniform(-settings.rotate, settings.rotate)
            image = functional.rotate(image, angle, InterpolationMode.BILINEAR)
        if settings.jitter:
            for change in rng.permutation(len(colour_changes)):
                factor = rng.uniform(1 - settings.jitter, 1 + settings.jitter)
                image = colour_changes[change](image, factor)
        if rng.random() < settings.gray:
            image = functional.rgb_to_grayscale(image, num_output_channels=3)
        if rng.random() < settings.erase:
            box = _rectangle(rng, size, area=(0.02, 0.33), ratio=3.3)
            image = functional.erase(image, *box, torch.zeros_like(image[:, :1, :1]))
        return image

    # One image after the other: it stays in the processor's cache through all of its changes.
    return lambda pixels, rng: torch.stack([view(image, rng) for image in pixels])


def _rectangle(
    rng: np.random.Generator, side: int, *, area: tuple[float, float], ratio: float
) -> tuple[int, int, int, int]:
    """Return a random rectangle in a square, as top, left, height and width.

    Its share of the square's area is within `area`, its width over its height within `ratio` and
    1 / `ratio`. The square itself in the rare case that ten such do not fit into it.
    """
    for _ in range(10):
        share = rng.uniform(*area) * side * side
        shape = math.exp(rng.uniform(-math.log(ratio), math.log(ratio)))
        height, width = round(math.sqrt(share / shape)), round(math.sqrt(share * shape))
        if 0 < height <= side and 0 < width <= side:
            top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
            return int(top), int(left), height, width
    return 0, 0, side, side
