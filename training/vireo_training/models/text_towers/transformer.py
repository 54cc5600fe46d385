"""A small pre-norm Transformer encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from ...config import TextTowerConfig
from .backbone import MASKED, TextBackbone, pool


class TransformerBackbone(TextBackbone):
    """Token and position embeddings, pre-norm blocks, a norm, and the pooling of `config`."""

    positions: Tensor

    def __init__(self, config: TextTowerConfig, vocab_size: int, pad_id: int) -> None:
        assert config.pool != "last"  # the settings refuse it
        super().__init__(config.width, pad_id)
        self.pooling = config.pool
        self.checkpointing = False
        self.tokens = nn.Embedding(vocab_size, config.width)
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.empty(config.buckets[-1], config.width))
            nn.init.normal_(self.positions, std=0.01)
            nn.init.normal_(self.tokens.weight, std=0.02)
        else:
            # The sines have amplitude 1: tokens keep nn.Embedding's deviation of 1 beside them.
            table = sinusoidal_positions(config.buckets[-1], config.width)
            self.register_buffer("positions", table, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            _Block(config.width, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.words: nn.Embedding | None = None
        if config.shortcut:
            self.words = nn.Embedding(vocab_size, config.width)
            nn.init.normal_(self.words.weight, std=0.02)
            # ReZero (Bachlechner et al., 2021): the blocks start at nothing and grow as they help.
            self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode INT32 or INT64 `[N, L]` to `[N, width]`; L is at most the last bucket."""
        tokens = input_ids != self.pad_id
        bias = (~tokens).float()[:, None, None, :] * MASKED
        x = self.dropout(self.tokens(input_ids) + self.positions[: input_ids.shape[1]])
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, bias, use_reentrant=False)
            else:
                x = block(x, bias)
        features = pool(self.norm(x), tokens, self.pooling)
        if self.words is None:
            return features
        # Dropout takes whole words: those left must find the image as well.
        mask = self.dropout(torch.ones_like(input_ids, dtype=x.dtype))[..., None]
        return pool(self.words(input_ids) * mask, tokens, "mean") + self.gate * features

    def layers(self) -> Iterable[Iterable[nn.Parameter]]:
        embeddings = [*self.tokens.parameters(), *self.parameters(recurse=False)]
        if self.words is not None:
            embeddings += self.words.parameters()
        *blocks, last = [list(block.parameters()) for block in self.blocks]
        return [embeddings, *blocks, [*last, *self.norm.parameters()]]

    def checkpoint_gradients(self) -> None:
        self.checkpointing = True


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Return sines and cosines of geometric wavelengths (Vaswani et al., 2017, section 3.5).

    Returns:
        FP32 `[length, width]`.
    """
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def _attention_kernel(q: Tensor, *, training: bool) -> AbstractContextManager[None]:
    """Choose products and a softmax one after the other while a CPU trains in bf16.

    There the backward pass of torch's fused kernel takes three to four times as long on texts of a
    caption's length. In FP32 the fused kernel is as fast, and stays.
    """
    if training and q.device.type == "cpu" and q.dtype == torch.bfloat16:
        context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
        return context
    return nullcontext()


class _Block(nn.Module):
    """Pre-norm self-attention and feed-forward (Xiong et al., 2020, "On Layer Normalization")."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        n, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        p = self.dropout if self.training else 0.0
        with _attention_kernel(q, training=self.training):
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=p)
        x = x + F.dropout(self.out(y.transpose(1, 2).reshape(n, length, width)), p)
        out: Tensor = x + self.mlp(x)
        return out
