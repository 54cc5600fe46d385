"""Settings of a training run: a preset is a small JSON file, every value can be overridden."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from vireo_client.errors import TrainingError


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageTowerConfig(_Settings):
    """A timm model and what it expects of a picture."""

    name: str = "resnet10t"
    """Any name `timm.list_models()` knows."""
    kwargs: dict[str, Any] = {}
    """Passed to `timm.create_model`, for example {"pad_type": "same"}."""
    weights: str | None = None
    """None trains from scratch; "timm" takes the pretrained weights of timm's hub; else the path of
    a safetensors or PyTorch file, or of a folder that holds `model.safetensors`."""
    freeze: bool = False
    """Keep the tower as it was loaded and train its projection head only."""
    pool: Literal["model", "grid"] = "model"
    """"model" pools as the timm model does; "grid" keeps the last feature map's cells apart, so
    that left and right, above and below stay different."""
    size: int = Field(224, gt=0)
    resize: int = Field(256, gt=0)
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @model_validator(mode="after")
    def _frozen_is_pretrained(self) -> ImageTowerConfig:
        if self.freeze and self.weights is None:
            raise ValueError(
                "freeze keeps the tower as it was loaded, but image.weights is not set; give "
                "image.weights=FILE, or image.freeze=false to train it from scratch"
            )
        return self


class TextTowerConfig(_Settings):
    """A pre-norm Transformer encoder trained from scratch, and its text path."""

    segmenter: str = "auto"
    """vncorenlp, py_vncorenlp, pyvi, none; "auto" takes the first that can be had, and the bundle
    records which."""
    tokenizer: Literal["bpe", "words"] = "bpe"
    """Trained on the training captions: byte-pair encoding, or one id a word."""
    vocab_size: int = Field(8000, gt=300)
    """Upper limit of the tokenizer's vocabulary."""
    buckets: tuple[int, ...] = (16, 32, 64)
    width: int = Field(256, gt=0)
    layers: int = Field(4, gt=0)
    heads: int = Field(4, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> TextTowerConfig:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) is not a multiple of heads ({self.heads})")
        return self


class TrainConfig(_Settings):
    """A whole run."""

    image: ImageTowerConfig = ImageTowerConfig()
    text: TextTowerConfig = TextTowerConfig()
    embedding_dim: int = Field(256, gt=0)
    epochs: int = Field(20, gt=0)
    batch_size: int = Field(64, gt=1)
    """Pictures in a batch."""
    captions_per_picture: int = Field(1, gt=0)
    """Captions drawn for each picture of a batch; they are never each other's negatives."""
    lr_image: float = Field(1e-4, ge=0)
    lr_text: float = Field(5e-4, ge=0)
    lr_head: float = Field(1e-3, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup_fraction: float = Field(0.05, ge=0, lt=1)
    clip_norm: float = Field(1.0, gt=0)
    augment: Literal["none", "crop-flip"] = "none"
    """"crop-flip": random resized crops and mirror images; not for captions that name a side."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 trains in mixed precision; "auto" does so where the CPU multiplies bf16 in hardware."""
    validation_fraction: float = Field(0.15, ge=0, lt=1)
    test_fraction: float = Field(0.15, ge=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _something_to_train_on(self) -> TrainConfig:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave nothing to train on")
        return self


def preset_names() -> list[str]:
    """The names `load_config` takes."""
    folder = resources.files("vireo_training") / "presets"
    return sorted(Path(str(f)).stem for f in folder.iterdir() if str(f).endswith(".json"))


def load_config(preset: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a preset, by name or as a JSON file of one's own, and applies `overrides`.

    Args:
        preset: a name from `preset_names`, or a path ending in `.json`.
        overrides: `KEY=VALUE` with dots into nested settings; the value is JSON where it parses as
            such and text otherwise: `image.size=128`, `image.weights=resnet.safetensors`.

    Raises:
        TrainingError: an unknown preset or key, or a value that does not fit.
    """
    if preset.endswith(".json"):
        path = Path(preset)
        if not path.is_file():
            raise TrainingError(f"{preset}: no such file")
        text = path.read_text(encoding="utf-8")
    elif preset in preset_names():
        text = (resources.files("vireo_training") / "presets" / f"{preset}.json").read_text("utf-8")
    else:
        raise TrainingError(f"preset {preset!r} is unknown; there are {', '.join(preset_names())}")
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise TrainingError(f"{preset}: not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise TrainingError(f"{preset}: not a JSON object of settings")
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise TrainingError(f"--set {override!r}: write it as KEY=VALUE, like epochs=10")
        _assign(settings, key.strip().split("."), _parse(value))
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise TrainingError(f"{preset}: {where}: {first['msg']}") from None


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _assign(settings: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        settings = settings.setdefault(name, {})
        if not isinstance(settings, dict):
            raise TrainingError(f"--set {'.'.join(path)}: {name!r} holds a value, not settings")
    settings[last] = value
