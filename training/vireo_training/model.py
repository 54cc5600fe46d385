"""The dual encoder: two towers and the temperature that training learns with them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .config import TrainConfig
from .towers import ImageTower, TextTower

_MAX_LOGIT_SCALE = math.log(100)


class DualEncoder(nn.Module):
    """Image and text tower with a learnable logit scale (Radford et al., 2021, section 2.3).

    Args:
        config: both towers' settings.
        vocab_size: rows of the token embedding.
        pad_id: the id the text tower masks.
        load: load the pretrained weights that `config` names (training), or leave the towers
            random because a bundle's weights follow.
    """

    def __init__(self, config: TrainConfig, vocab_size: int, pad_id: int, *, load: bool) -> None:
        super().__init__()
        self.image_tower = ImageTower(config.image, config.embedding_dim, load=load)
        self.text_tower = TextTower(config.text, vocab_size, pad_id, config.embedding_dim)
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def logit_scale(self) -> Tensor:
        """1 / temperature, at most 100."""
        return self.log_logit_scale.clamp(max=_MAX_LOGIT_SCALE).exp()

    def forward(self, pixels: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """UINT8 `[B, 3, H, W]` and ids `[T, L]` to unit vectors `[B, D]` and `[T, D]`."""
        return self.image_tower(pixels), self.text_tower(input_ids)


def model_settings(config: TrainConfig) -> dict[str, Any]:
    """What `bundle.json` keeps under "model": enough to build the module again."""
    return config.model_dump(mode="json", include={"image", "text", "embedding_dim"})
