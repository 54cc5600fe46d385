"""The rows of all devices as one batch, with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows(rows: Tensor) -> Tensor:
    """Gather the rows of all ranks, so that every rank computes the loss of the whole batch.

    Gradients flow back to the rank that each row came from, summed over all ranks. Every rank has
    the same loss, so on W ranks an embedding gets W times the gradient that one device would give
    it; and `DistributedDataParallel` divides the sum of the ranks' parameter gradients by W. The
    two cancel: a parameter of a tower gets exactly the gradient of the loss on one device. So
    does a parameter of the loss (logit scale, bias): each rank has its whole gradient, and the mean
    over ranks is that gradient. Neither a factor W nor a loss per rank is needed.

    Args:
        rows: the rows of this rank, `[N, ...]`; N may differ between ranks.

    Returns:
        The rows in the order of ranks; `rows` itself without an initialised process group, or
        alone in it.
    """
    if not _distributed():
        return rows
    gathered: Tensor = _GatherRows.apply(rows, _counts(len(rows), rows.device))  # type: ignore[no-untyped-call]
    return gathered


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _counts(count: int, device: torch.device) -> list[int]:
    """Return the `count` of every rank, in the order of ranks."""
    mine = torch.tensor([count], device=device)
    counts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, mine)
    return [int(c) for c in torch.cat(counts).tolist()]


class _GatherRows(torch.autograd.Function):
    """Pads the rows to the longest rank's and cuts them after: collectives need one shape."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        # Not a reduce-scatter, which gloo lacks; embeddings are small beside a tower's gradients.
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = sum(ctx.counts[: dist.get_rank()])
        return total[start : start + ctx.counts[dist.get_rank()]], None
