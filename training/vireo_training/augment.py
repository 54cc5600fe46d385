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
    if config.augment == "none":
        return lambda pixels: pixels
    ensure_torchvision()
    from torchvision.transforms import v2

    view = v2.Compose(
        [
            v2.RandomResizedCrop(config.image.size, scale=(0.5, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )
    return lambda pixels: torch.stack([view(picture) for picture in pixels])
