"""Random views of training pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .config import TrainConfig
from .torchvision_ops import ensure_torchvision


def make_augmentation(config: TrainConfig) -> Callable[[Tensor], Tensor]:
    """Gives the function that turns stored pixels into a training view.

    It takes and returns UINT8 `[B, 3, H, W]`; the result's edge is `config.image.size`.
    """
    settings = config.augment
    if not settings.changes:
        return lambda pixels: pixels
    ensure_torchvision()
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomResizedCrop(config.image.size, scale=(settings.crop, 1.0), antialias=True),
            v2.RandomHorizontalFlip(settings.flip),
            v2.ColorJitter(settings.jitter, settings.jitter, settings.jitter),
        ]
    )
    return lambda pixels: torch.stack([view(picture) for picture in pixels])
