"""Learning rates over a run: warm-up, then cosine, plateau or constant."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..config import TrainConfig


class Schedule:
    """Set the rate of every parameter group before a step: its own, times one factor for all.

    The factor rises linearly over the warm-up; then "cosine" takes it to 0 at the last step
    (Loshchilov and Hutter, 2017, without restarts), "plateau" multiplies it by `plateau_factor`
    each time validation has not improved for more than `plateau_patience` epochs, "constant" leaves
    it. Without validation every epoch counts as an improvement.

    Args:
        optimiser: its groups' rates are those of factor 1.
        config: of the run.
        epoch_steps: optimiser steps in an epoch.
    """

    def __init__(
        self, optimiser: torch.optim.Optimizer, config: TrainConfig, epoch_steps: int
    ) -> None:
        self._optimiser = optimiser
        self._rates = [group["lr"] for group in optimiser.param_groups]
        self._config = config
        self._warmup = round(config.warmup_epochs * epoch_steps)
        self._steps = config.epochs * epoch_steps
        self._done = 0
        self._reduction = 1.0
        self._stale = 0
        self._apply()

    @property
    def factor(self) -> float:
        """The factor of the coming step's rates."""
        if self._done < self._warmup:
            return (self._done + 1) / self._warmup
        if self._config.schedule == "cosine":
            past = (self._done - self._warmup) / max(1, self._steps - self._warmup)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, past)))
        return self._reduction

    def step(self) -> None:
        """Set the next rates, after a step of the optimiser."""
        self._done += 1
        self._apply()

    def epoch_ended(self, better: bool) -> None:
        """Count an epoch, the best so far or not; those that end in the warm-up do not count."""
        if self._done < self._warmup:
            return
        self._stale = 0 if better else self._stale + 1
        if self._config.schedule == "plateau" and self._stale > self._config.plateau_patience:
            self._reduction *= self._config.plateau_factor
            self._stale = 0
            self._apply()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on from here."""
        names = ("_rates", "_done", "_reduction", "_stale")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, also with more epochs than the run had, and set the rates.

        Load the optimiser's own state first: it holds the rates of the time it was saved.
        """
        for name, value in state.items():
            setattr(self, name, value)
        self._apply()

    def _apply(self) -> None:
        # Read anew each time: loading a state gives the optimiser other groups.
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * self.factor
