"""A bidirectional LSTM over the true length of each text."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ...config import TextTowerConfig
from .backbone import TextBackbone, pool


class LstmBackbone(TextBackbone):
    """Token embeddings, a stack of bidirectional LSTM layers (Graves and Schmidhuber, 2005), the
    pooling of `config`, and a norm.

    PyTorch runs it over packed sequences; in an exported graph ONNX's own LSTM operator, which
    knows the texts' lengths as well, stands in for each layer. Neither ever reads padding.
    """

    def __init__(self, config: TextTowerConfig, vocab_size: int, pad_id: int) -> None:
        hidden = config.hidden or config.width
        super().__init__(2 * hidden, pad_id)
        self.pooling = config.pool
        # nn.Embedding's deviation of 1: the biases of the gates would drown smaller tokens.
        self.tokens = nn.Embedding(vocab_size, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(
            config.width,
            hidden,
            config.layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.layers > 1 else 0.0,  # only between layers
        )
        self.norm = nn.LayerNorm(2 * hidden)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode INT32 or INT64 `[N, L]` to `[N, 2 * hidden]`."""
        tokens = input_ids != self.pad_id
        # A text of no tokens counts as one: packed sequences have none of length 0.
        lengths = tokens.sum(dim=1).clamp(min=1)
        x = self.dropout(self.tokens(input_ids))
        if torch.onnx.is_in_onnx_export():
            states = _onnx_lstm(self.lstm, x, lengths)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), True, enforce_sorted=False)
            states, _ = pad_packed_sequence(
                self.lstm(packed)[0], batch_first=True, total_length=input_ids.shape[1]
            )
        out: Tensor = self.norm(self._pool(states, tokens, lengths))
        return out

    def _pool(self, states: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        if self.pooling != "last":
            return pool(states, tokens, self.pooling)
        forward, backward = states.chunk(2, dim=-1)
        last = (lengths - 1)[:, None, None].expand(-1, 1, forward.shape[2])
        # The backward direction ends at the first token.
        return torch.cat([forward.gather(1, last)[:, 0], backward[:, 0]], dim=-1)

    def layers(self) -> Iterable[Iterable[nn.Parameter]]:
        *lower, top = [
            [p for name, p in self.lstm.named_parameters() if f"_l{k}" in name]
            for k in range(self.lstm.num_layers)
        ]
        return [[*self.tokens.parameters()], *lower, [*top, *self.norm.parameters()]]


def _onnx_lstm(lstm: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """Run the same LSTM by ONNX operators: `[N, L, W]` and lengths `[N]` to `[N, L, 2 * hidden]`.

    The exporter has no translation of packed sequences, and unrolls what is not packed to one
    fixed length.
    """
    hidden = lstm.hidden_size
    x = x.transpose(0, 1)
    for layer in range(lstm.num_layers):
        y = torch.onnx.ops.symbolic(
            "LSTM",
            (
                x,
                *(_onnx_weights(lstm, kind, layer) for kind in ("weight_ih", "weight_hh")),
                torch.cat([_onnx_weights(lstm, k, layer) for k in ("bias_ih", "bias_hh")], dim=1),
                lengths.int(),
            ),
            {"direction": "bidirectional", "hidden_size": hidden},
            dtype=x.dtype,
            shape=(x.shape[0], 2, x.shape[1], hidden),
        )
        x = y.transpose(1, 2).flatten(2)
    return x.transpose(0, 1)


def _onnx_weights(lstm: nn.LSTM, kind: str, layer: int) -> Tensor:
    """Return the weights of both directions in the order of ONNX.

    PyTorch orders the gates i, f, g, o, and ONNX i, o, f, c (its g).
    """
    directions = []
    for suffix in ("", "_reverse"):
        i, f, g, o = getattr(lstm, f"{kind}_l{layer}{suffix}").chunk(4)
        directions.append(torch.cat([i, o, f, g]))
    return torch.stack(directions)
