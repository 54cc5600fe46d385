"""Projection heads: a tower's features to the embedding, before it gets unit length."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .config import HeadConfig


class ResidualHead(nn.Module):
    """Linear, GELU, linear, dropout, added to the first linear's output, layer norm."""

    def __init__(self, width: int, embedding_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.input = nn.Linear(width, embedding_dim)
        self.hidden = nn.Linear(embedding_dim, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """`[N, width]` to FP32 `[N, embedding_dim]`."""
        projected = self.input(features)
        mixed = projected + self.dropout(self.hidden(F.gelu(projected)))
        out: Tensor = self.norm(mixed.float())
        return out


def make_head(config: HeadConfig, width: int, embedding_dim: int) -> nn.Module:
    """Builds the head that `config` describes: `[N, width]` to `[N, embedding_dim]`."""
    if config.kind == "linear":
        return nn.Linear(width, embedding_dim, bias=False)
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
