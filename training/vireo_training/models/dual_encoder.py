"""The dual encoder: two towers, and the temperature of their similarities."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from .image_tower import ImageTower
from .source_towers import Encoders, SourceImageTower, SourceTextTower, build_encoders
from .text_towers import TextTower
from .tower import Tower


class DualEncoder(nn.Module):
    """Image and text tower with a logit scale (Radford et al., 2021, section 2.3).

    Args:
        config: the towers' and the temperature's settings.
        vocab_size: the number of ids of the tokenizer.
        pad_id: the id that pads.
        load: load the pretrained weights that `config` names (training), or leave the towers
            random because a bundle's weights follow.
        image_tower: the image tower where it is built already.
        encoders: the halves of the model that `config.source` names, where they are loaded.

    Raises:
        TrainingError: a tower cannot be built, its weights cannot be had, or the text encoder does
            not fit the tokenizer.
    """

    logit_bias: nn.Parameter | None
    """Added to the logits of the sigmoid loss (Zhai et al., 2023, section 3.2); else None."""

    def __init__(
        self,
        config: TrainConfig,
        vocab_size: int,
        pad_id: int,
        *,
        load: bool,
        image_tower: ImageTower | None = None,
        encoders: Encoders | None = None,
    ) -> None:
        super().__init__()
        self.image_tower: Tower
        self.text_tower: Tower
        if config.source is not None:
            halves = encoders or build_encoders(config.source, pad_id)
            self.image_tower = SourceImageTower(halves.image, config)
            self.text_tower = SourceTextTower(halves.text, config)
        else:
            dim = config.embedding_dim
            self.image_tower = image_tower or ImageTower(config.image, dim, load=load)
            self.text_tower = TextTower(config.text, vocab_size, pad_id, dim, load=load)
        self.log_logit_scale = nn.Parameter(
            torch.tensor(-math.log(config.temperature)), requires_grad=config.learn_temperature
        )
        self._max_log_scale = -math.log(config.min_temperature)
        self.logit_bias = None
        if config.loss == "siglip":
            self.logit_bias = nn.Parameter(torch.tensor(config.siglip_bias))

    @property
    def logit_scale(self) -> Tensor:
        """1 / temperature, a scalar; a learnt temperature is clamped at its minimum."""
        scale = self.log_logit_scale
        return (scale.clamp(max=self._max_log_scale) if scale.requires_grad else scale).exp()

    def forward(self, images: Tensor, *input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Embed images and texts as unit vectors.

        Args:
            images: pixels UINT8 `[B, 3, H, W]`; or features `[B, W]` of the image backbone,
                computed before: then only the head runs.
            input_ids: INT32 or INT64 `[T, L]`; several of different lengths are taken one after
                the other, and make one batch for the head.

        Returns:
            FP32 `[B, D]` and `[T, D]`.
        """
        cached = images.ndim == 2
        embed = self.image_tower.project if cached else self.image_tower
        texts = torch.cat([self.text_tower.features(ids) for ids in input_ids])
        return embed(images), self.text_tower.project(texts)


def model_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that `bundle.json` keeps under "model", to build the module again."""
    return config.model_dump(
        mode="json",
        include={
            "source",
            "image",
            "text",
            "embedding_dim",
            "loss",
            "temperature",
            "learn_temperature",
            "min_temperature",
        },
        # Matters in training only, and has no place in an exported graph.
        exclude={"image": {"checkpointing"}, "text": {"checkpointing"}},
    )
