"""The progress of a run, in epochs, batches and metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..config import TrainConfig


@dataclass
class Progress:
    """Counts and metrics of a run; a checkpoint holds them beside weights and random states."""

    epoch: int = 0
    """The number of epochs done."""
    step: int = 0
    """The number of batches done in the current epoch."""
    loss: float = 0.0
    """The sum of the losses of those batches."""
    seconds: float = 0.0
    waited: float = 0.0
    """The seconds that those batches took, and those of them spent waiting for data."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """A line an epoch."""
    best_score: float = -math.inf
    best_epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    """The validation metrics of the best epoch."""
    monitor: str = "mean_reciprocal_rank"
    """What an epoch is compared by, as `TrainConfig.monitor` names it."""

    def count(self, loss: float, seconds: float, waited: float) -> None:
        """Count one more batch."""
        self.step += 1
        self.loss += loss
        self.seconds += seconds
        self.waited += waited

    def begin(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Count the model before its first epoch as epoch 0.

        Args:
            metrics: its validation loss and metrics.

        Returns:
            The line of the history.
        """
        line = {"epoch": 0, **metrics}
        self.history.append(line)
        self.best_score, self.metrics = self._score(metrics), metrics
        return line

    def end_epoch(self, metrics: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """End the current epoch.

        Args:
            metrics: its validation loss and metrics; empty without validation.

        Returns:
            The epoch's line of the history, and whether the epoch is the best so far, by what is
            monitored. Without validation, the latest epoch is the best.
        """
        self.epoch += 1
        line = {
            "epoch": self.epoch,
            "loss": round(self.loss / self.step, 4),
            "seconds": round(self.seconds, 2),
            "waiting": round(self.waited / max(self.seconds, 1e-9), 4),
            **metrics,
        }
        self.history.append(line)
        score = self._score(metrics) if metrics else float(self.epoch)
        better = score > self.best_score
        if better:
            self.best_score, self.best_epoch, self.metrics = score, self.epoch, metrics
        self.step, self.loss, self.seconds, self.waited = 0, 0.0, 0.0, 0.0
        return line, better

    def ended(self, config: TrainConfig) -> bool:
        """Return whether all epochs are done, or too many without an improvement."""
        stale = self.epoch - self.best_epoch
        return self.epoch >= config.epochs or (
            config.patience is not None and stale >= config.patience
        )

    def _score(self, metrics: dict[str, Any]) -> float:
        """Return what is compared, the higher the better: both directions' ranks, or the loss."""
        if self.monitor == "loss":
            return -float(metrics["validation_loss"])
        return sum(
            float(metrics[way]["mean_reciprocal_rank"])
            for way in ("text_to_image", "image_to_text")
        )
