"""The gradients of one batch, and one update of the weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..config import TrainConfig
from ..data.batches import Batch
from ..models.dual_encoder import DualEncoder
from .gather import gather_rows
from .grad_cache import cached_backward
from .objective import batch_loss


class Step:
    """Forward and backward passes, and updates, in the precision and memory that `config` sets.

    Args:
        config: names the loss, precision, clipping and cached gradients.
        accelerator: brings gradients of several devices together.
        model: the model as the accelerator prepared it; may be replaced between batches.
        raw: the module inside `model`.
        optimiser: updates the parameters of `raw`.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        model: nn.Module,
        raw: DualEncoder,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        self.model = model
        self._config = config
        self._accelerator = accelerator
        self._raw = raw
        self._optimiser = optimiser
        kind = accelerator.device.type
        self._half = _half_precision(config, kind)
        self.scaler = torch.amp.GradScaler(kind, enabled=self._half is torch.float16)

    def backward(self, batch: Batch, count: int, *, last: bool) -> float:
        """Add a batch's gradients to those of its group.

        Args:
            batch: on the accelerator's device.
            count: batches in the group, whose gradients are averaged.
            last: whether this batch ends the group; then the devices' gradients are averaged.

        Returns:
            The batch's loss.
        """

        def loss_of(image: Tensor, text: Tensor) -> Tensor:
            loss = batch_loss(
                self._config, self._raw, gather_rows(image), gather_rows(text),
                batch.owner, batch.texts,
            )  # fmt: skip
            return loss / count

        with ExitStack() as stack:
            if not last:
                stack.enter_context(self._no_sync())
            if self._config.grad_cache is not None:
                loss = cached_backward(
                    self.model, batch.chunks, loss_of, scale=self.scaler.scale,
                    no_sync=self._no_sync, autocast=self.autocast,
                )  # fmt: skip
            else:
                (chunk,) = batch.chunks
                with self.autocast():
                    image, text = self.model(*chunk)
                loss = loss_of(image, text)
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.item() * count

    def update(self) -> None:
        """Step the optimiser with clipped gradients, and clear them."""
        self.scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self._raw.parameters(), self._config.clip_norm)
        self.scaler.step(self._optimiser)
        self.scaler.update()
        self._optimiser.zero_grad(set_to_none=True)

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass in the run's precision."""
        kind = self._accelerator.device.type
        return torch.autocast(kind, self._half or torch.bfloat16, enabled=self._half is not None)

    def _no_sync(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._accelerator.no_sync(self.model)
        return context


def _half_precision(config: TrainConfig, kind: str) -> torch.dtype | None:
    if config.precision == "auto":
        return torch.bfloat16 if _fast_bf16(kind) else None
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]


def _fast_bf16(kind: str) -> bool:
    """Return whether the device multiplies bf16 by itself; where it is emulated, fp32 is faster."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # AVX512-BF16 without AMX (AMD since Zen 4) still takes but half of the time of fp32.
    return kind == "cpu" and bool(
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )
