"""Projection heads: from a tower's features to its embedding, before that gets unit length."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from vireo_client.errors import TrainingError

from ..config import HeadConfig


class ResidualHead(nn.Module):
    """Linear, GELU, linear, dropout, added to the first linear's output, layer norm."""

    def __init__(self, width: int, embedding_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.input = nn.Linear(width, embedding_dim)
        self.hidden = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Project `[N, width]` to FP32 `[N, embedding_dim]`."""
        projected = self.input(features)
        mixed = projected + self.dropout(self.hidden(F.gelu(projected)))
        out: Tensor = self.norm(mixed.float())
        return out


class UnitLength(nn.Module):
    """Features divided by their length."""

    def forward(self, features: Tensor) -> Tensor:
        """Scale `[N, width]` to unit length, as FP32 `[N, width]`."""
        return F.normalize(features.float(), dim=-1)


def make_head(config: HeadConfig, width: int, embedding_dim: int) -> nn.Module:
    """Build the head that `config` describes: `[N, width]` to `[N, embedding_dim]`.

    Raises:
        TrainingError: the head is "none", and the features have another width than the embedding.
    """
    head = _make_head(config, width, embedding_dim)
    return nn.Sequential(UnitLength(), head) if config.unit_features else head


def _make_head(config: HeadConfig, width: int, embedding_dim: int) -> nn.Module:
    if config.kind == "none":
        if width != embedding_dim:
            raise TrainingError(
                f'head "none": the features have {width} values and the embedding '
                f"{embedding_dim}; set embedding_dim={width}, or another head"
            )
        return nn.Identity()
    if config.kind == "linear":
        return nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(width, embedding_dim, bias=config.bias)
        )
    if config.kind == "mlp":
        hidden = config.hidden or embedding_dim
        return nn.Sequential(
            nn.Linear(width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, embedding_dim),
        )
    return ResidualHead(width, embedding_dim, config.dropout)
