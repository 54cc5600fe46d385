"""Fine-tuning: the two halves of a dual encoder of transformers as towers that train."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from vireo_client.errors import ExportError, TrainingError, first_line
from vireo_client.text.pipeline import TextPath

from ..config import SourceConfig, TrainConfig
from .heads import make_head
from .resolve import image_spec
from .text_towers.huggingface import architecture_of, layers_of_stack
from .torchvision_ops import ensure_torchvision
from .tower import Tower


class Encoders(NamedTuple):
    """The halves of a dual encoder, without temperature and normalisation."""

    image: nn.Module
    """Normalised pixels FP32 `[N, 3, H, W]` to features FP32 `[N, D]`."""
    text: nn.Module
    """Ids INT64 `[N, L]` to features FP32 `[N, D]`."""


class SourceImageTower(Tower):
    """The image half of another's dual encoder over raw pixels, UINT8 `[N, 3, H, W]`."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, config: TrainConfig) -> None:
        head = make_head(config.image.head, config.embedding_dim, config.embedding_dim)
        super().__init__(encoder, head, frozen=config.image.freeze)
        spec = image_spec(config.image)
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255, False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255, False)

    def _encode(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.backbone((inputs.float() - self.mean) / self.std)
        return features

    def _backbone_layers(self) -> Iterable[Iterable[nn.Parameter]]:
        return layers_of_stack(self.backbone)


class SourceTextTower(Tower):
    """The text half of another's dual encoder over ids, INT32 or INT64 `[N, L]`."""

    def __init__(self, encoder: nn.Module, config: TrainConfig) -> None:
        head = make_head(config.text.head, config.embedding_dim, config.embedding_dim)
        super().__init__(encoder, head, frozen=config.text.freeze)

    def _encode(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.backbone(inputs.long())
        return features

    def _backbone_layers(self) -> Iterable[Iterable[nn.Parameter]]:
        return layers_of_stack(self.backbone)


class OpenedSource(NamedTuple):
    """A model to fine-tune: its settings in a run, its weights, its text path."""

    config: TrainConfig
    encoders: Encoders
    text_path: TextPath


def open_for_training(config: TrainConfig) -> OpenedSource:
    """Load the model that `config.source` names, and complete the settings by what it comes with.

    Sizes, image preprocessing and the width of the embedding are the model's own; so are the
    temperature and the bias that training starts from, where the settings do not give them.

    Raises:
        TrainingError: it is no dual encoder of transformers, or cannot be loaded.
    """
    from ..sources.huggingface import PREFIX, load_huggingface

    assert config.source is not None
    name = config.source.name
    if not name.startswith(PREFIX):
        raise TrainingError(
            f"--from {name}: only dual encoders of transformers are fine-tuned; give "
            f"{PREFIX}OWNER/NAME or {PREFIX}FOLDER"
        )
    try:
        source, model, text = load_huggingface(name.removeprefix(PREFIX))
    except ExportError as error:
        raise TrainingError(str(error)) from error
    spec = source.bundle.config
    update: dict[str, Any] = {
        "source": SourceConfig(
            name=name,
            architecture=architecture_of(model.config),
            masked=text.masked,
            pad_ends=text.pad_ends,
        ),
        "embedding_dim": spec.embedding_dim,
        "image": config.image.model_copy(update=spec.image.model_dump(exclude={"offset"})),
        "text": config.text.model_copy(update={"segmenter": "raw", "buckets": spec.text.buckets}),
    }
    if "temperature" not in config.model_fields_set:
        update["temperature"] = _temperature(model)
    bias = getattr(model, "logit_bias", None)
    if bias is not None and "siglip_bias" not in config.model_fields_set:
        update["siglip_bias"] = float(bias)
    encoders = _without_temperature(
        source.image_tower.get_submodule("encoder"), source.text_tower.get_submodule("encoder")
    )
    for encoder in encoders:
        encoder.requires_grad_(True)
    return OpenedSource(
        config.model_copy(update=update), encoders, TextPath.from_bundle(source.bundle)
    )


def build_encoders(source: SourceConfig, pad_id: int) -> Encoders:
    """Build the encoders of a bundle that was fine-tuned, with random weights.

    Raises:
        TrainingError: its architecture is not one of transformers'.
    """
    ensure_torchvision()  # transformers imports it
    from transformers import AutoConfig, AutoModel

    from ..sources.huggingface import HuggingFaceImageEncoder, HuggingFaceTextEncoder

    try:
        config = AutoConfig.for_model(**source.architecture)
        model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    except Exception as error:  # each model refuses settings that do not fit in its own way
        raise TrainingError(
            f"source.architecture: cannot be built ({first_line(error)})"
        ) from error
    return _without_temperature(
        HuggingFaceImageEncoder(model),
        HuggingFaceTextEncoder(model, pad_id, masked=source.masked, pad_ends=source.pad_ends),
    )


def _without_temperature(image: nn.Module, text: nn.Module) -> Encoders:
    """Take the temperature out of both halves: it is the loss's, and they would share it."""
    for encoder in (image, text):
        encoder.get_submodule("model")._parameters = {}
    return Encoders(image, text)


def _temperature(model: nn.Module) -> float:
    """Return the temperature that a model was trained with: ALIGN has it, others its logarithm."""
    if isinstance(temperature := getattr(model, "temperature", None), Tensor):
        return float(temperature)
    return math.exp(-float(model.get_parameter("logit_scale")))
