"""The mean of token embeddings: neither order nor context."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ...config import TextTowerConfig
from .backbone import TextBackbone, pool


class BagOfWordsBackbone(TextBackbone):
    """Embeds each token and takes the mean over those that are not padding."""

    def __init__(self, config: TextTowerConfig, vocab_size: int, pad_id: int) -> None:
        super().__init__(config.width, pad_id)
        self.tokens = nn.Embedding(vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode INT32 or INT64 `[N, L]` to `[N, width]`."""
        states = self.dropout(self.tokens(input_ids))
        return pool(states, input_ids != self.pad_id, "mean")

    def layers(self) -> Iterable[Iterable[nn.Parameter]]:
        return [self.parameters()]
