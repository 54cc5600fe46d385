"""Fills in what a preset leaves to the models it names, so that a bundle says everything itself."""

from __future__ import annotations

import math
from typing import Any

from vireo_client.bundle import ImageSpec

from .config import ImageTowerConfig, TrainConfig
from .torchvision_ops import ensure_torchvision


def resolve(config: TrainConfig) -> TrainConfig:
    """Gives `config` with the picture settings of timm's data config where it has none."""
    return config.model_copy(update={"image": resolve_image(config.image)})


def image_spec(image: ImageTowerConfig) -> ImageSpec:
    """The preprocessing of a resolved image tower."""
    return ImageSpec(**image.model_dump(include=set(ImageSpec.model_fields)))


def resolve_image(image: ImageTowerConfig) -> ImageTowerConfig:
    """Fills in size, resize, interpolation, mean and std from timm where they are not set."""
    ensure_torchvision()
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg

    known = get_pretrained_cfg(image.name, allow_unregistered=True)
    data: dict[str, Any] = resolve_data_config(  # type: ignore[no-untyped-call]
        pretrained_cfg=known.to_dict() if known else {}  # type: ignore[no-untyped-call]
    )
    size = image.size or data["input_size"][-1]
    filled = {
        "size": size,
        "resize": image.resize or max(size, math.floor(size / data["crop_pct"])),
        "interpolation": image.interpolation or data["interpolation"],
        "mean": image.mean or tuple(data["mean"]),
        "std": image.std or tuple(data["std"]),
    }
    return image.model_copy(update=filled)
