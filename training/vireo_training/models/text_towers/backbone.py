"""The interface of text backbones, and the pooling of token states to one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn
from vireo_client.errors import TrainingError

MASKED = -1e4
"""The value that takes a score out of a softmax or a maximum. It is finite: FP16 engines can hold
it, and a row of padding alone never becomes NaN."""


class TextBackbone(nn.Module, ABC):
    """Ids INT32 or INT64 `[N, L]` to features `[N, width]`.

    Args:
        width: the width of the features.
        pad_id: the id that pads on the right.
    """

    def __init__(self, width: int, pad_id: int) -> None:
        super().__init__()
        self.width = width
        self.pad_id = pad_id

    @abstractmethod
    def layers(self) -> Iterable[Iterable[nn.Parameter]]:
        """Return all parameters by layer, from the bottom to the top."""

    def checkpoint_gradients(self) -> None:
        """Compute activations again in the backward pass instead of keeping them.

        Raises:
            TrainingError: this kind cannot.
        """
        raise TrainingError(
            "text.checkpointing: this tower has no stack of blocks to compute again; "
            "set text.checkpointing=false"
        )


def pool(states: Tensor, tokens: Tensor, how: Literal["cls", "mean", "max"]) -> Tensor:
    """Pool token states `[N, L, W]` to `[N, W]`; `tokens`, BOOL `[N, L]`, is False on padding."""
    if how == "cls":
        return states[:, 0]
    if how == "max":
        return states.masked_fill(~tokens[..., None], MASKED).amax(dim=1)
    weights = tokens[..., None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
