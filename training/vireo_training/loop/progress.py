"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..config import TrainConfig


@dataclass
class Progress:
    """Counts and figures; with weights, optimiser and random states, all a checkpoint holds."""

    epoch: int = 0
    """Epochs that are done."""
    step: int = 0
    """Batches done of the epoch that runs."""
    loss: float = 0.0
    """Sum over those batches."""
    seconds: float = 0.0
    waited: float = 0.0
    """Seconds that those batches took, and of them waiting for data."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """A line an epoch."""
    best_score: float = -1.0
    best_epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    """Of the best epoch, on validation."""

    def count(self, loss: float, seconds: float, waited: float) -> None:
        """One more batch is done."""
        self.step += 1
        self.loss += loss
        self.seconds += seconds
        self.waited += waited

    def begin(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """What the run begins with counts as epoch 0.

        Args:
            metrics: what validation gave, both ways.

        Returns:
            The line of the history.
        """
        line = {"epoch": 0, **metrics}
        self.history.append(line)
        self.best_score, self.metrics = score_of(metrics), metrics
        return line

    def end_epoch(self, metrics: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Ends the epoch that runs.

        Args:
            metrics: what validation gave, both ways; empty without validation.

        Returns:
            The epoch's line of the history, and whether it is the best so far: by the sum of both
            mean reciprocal ranks; without validation the latest is.
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
        score = score_of(metrics) if metrics else float(self.epoch)
        better = score > self.best_score
        if better:
            self.best_score, self.best_epoch, self.metrics = score, self.epoch, metrics
        self.step, self.loss, self.seconds, self.waited = 0, 0.0, 0.0, 0.0
        return line, better

    def ended(self, config: TrainConfig) -> bool:
        """Whether all epochs are done, or too many without an improvement."""
        stale = self.epoch - self.best_epoch
        return self.epoch >= config.epochs or (
            config.patience is not None and stale >= config.patience
        )


def score_of(metrics: dict[str, Any]) -> float:
    """The sum of both directions' mean reciprocal ranks."""
    return sum(
        float(metrics[way]["mean_reciprocal_rank"]) for way in ("text_to_image", "image_to_text")
    )
