"""Fills in what a preset leaves to the models it names, so that a bundle says everything itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from vireo_client.bundle import ImageSpec
from vireo_client.errors import TrainingError

from ..config import ImageTowerConfig, TrainConfig
from .hub import fetch_folder
from .text_towers.huggingface import resolve_architecture
from .torchvision_ops import ensure_torchvision

_HUB = "hf-hub:"


def resolve(config: TrainConfig) -> TrainConfig:
    """Return `config`, completed by the settings that its models come with.

    That is the image settings of timm's data config, and the architecture of a text encoder of
    transformers.

    Raises:
        TrainingError: a model is neither known nor to be had.
    """
    text = resolve_architecture(config.text)
    return config.model_copy(update={"image": resolve_image(config.image), "text": text})


def image_spec(image: ImageTowerConfig) -> ImageSpec:
    """Return the preprocessing of a resolved image tower."""
    return ImageSpec(**image.model_dump(include=set(ImageSpec.model_fields)))


def resolve_image(image: ImageTowerConfig) -> ImageTowerConfig:
    """Fill in size, resize, interpolation, mean and std where they are not set.

    They come from the `config.json` beside the weights where timm wrote one, else from timm's
    registry. A model that is built for one size, such as a ViT, gets another one as `img_size`.

    Raises:
        TrainingError: timm has no such model, or the weights' folder has a `config.json` that
            cannot be read.
    """
    if None not in (image.size, image.resize, image.interpolation, image.mean, image.std):
        return image
    ensure_torchvision()
    from timm.data.config import resolve_data_config

    known = _pretrained_config(image)
    data: dict[str, Any] = resolve_data_config(pretrained_cfg=known)  # type: ignore[no-untyped-call]
    size = image.size or image.kwargs.get("img_size") or data["input_size"][-1]
    kwargs = image.kwargs
    if known.get("fixed_input_size") and size != data["input_size"][-1]:
        kwargs = {"img_size": size, **kwargs}
    # What is squashed shows the whole image: nothing is cropped from it.
    crop_pct = 1.0 if image.fit == "squash" else data["crop_pct"]
    filled = {
        "kwargs": kwargs,
        "size": size,
        "resize": image.resize or max(size, math.floor(size / crop_pct)),
        "interpolation": image.interpolation or data["interpolation"],
        "mean": image.mean or tuple(data["mean"]),
        "std": image.std or tuple(data["std"]),
    }
    return image.model_copy(update=filled)


def weights_folder(weights: str) -> Path:
    """Return the local path of image weights: a file or folder, or "hf-hub:" and a repository.

    Raises:
        TrainingError: a repository cannot be fetched.
    """
    if not weights.startswith(_HUB):
        return Path(weights)
    return fetch_folder(
        weights.removeprefix(_HUB),
        ["config.json", "model.safetensors"],
        advice="give image.weights=FILE, or train from scratch with --set image.weights=null",
    )


def _pretrained_config(image: ImageTowerConfig) -> dict[str, Any]:
    """Return timm's config of the model, or that in the folder of the weights."""
    from timm.models import get_pretrained_cfg, is_model

    if not is_model(image.name):
        raise TrainingError(
            f"image tower {image.name!r}: timm has no such model; see timm.list_models() for names"
        )
    try:
        registered = get_pretrained_cfg(image.name)
    except RuntimeError as error:  # a tag of weights that the model does not have
        raise TrainingError(f"image tower {image.name!r}: {error}") from error
    # The defaults of timm for a model without weights.
    known: dict[str, Any] = {"input_size": (3, 224, 224)}
    if registered is not None:
        known = registered.to_dict()  # type: ignore[no-untyped-call]
    if image.weights in (None, "timm"):
        return known
    path = weights_folder(str(image.weights)) / "config.json"
    if not path.is_file():
        return known
    try:
        written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {**known, **written.get("pretrained_cfg", {})}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise TrainingError(
            f"{path}: is not a timm model's config ({error}); remove it, or copy the folder again"
        ) from error
