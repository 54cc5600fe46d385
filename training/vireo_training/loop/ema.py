"""The moving average of the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Tensors: TypeAlias = tuple[Tensor, ...] | list[Tensor]


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Return the `multi_avg_fn` of an `AveragedModel` whose first weights fade quickly.

    After n updates the decay is (1 + n) / (10 + n), and at most `decay`: that of TensorFlow's
    `ExponentialMovingAverage` with `num_updates`. With `decay` from the start, 0.999 would still
    keep four fifths of the first weights after 200 steps.

    Args:
        decay: above 0, below 1.
    """

    @torch.no_grad()
    def update(averages: Tensors, parameters: Tensors, updates: Tensor | int) -> None:
        done = float(updates)
        weight = 1 - min(decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(averages, parameters, weight)

    return update
