"""A run's state: all that an epoch changes, and the checkpoint that keeps it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from vireo_client.errors import TrainingError

from ..config import TrainConfig
from ..models.dual_encoder import DualEncoder
from .checkpoint import check_data, save_checkpoint
from .devices import random_state, set_random_state
from .ema import moving_average
from .optimiser import parameter_groups
from .progress import Progress
from .schedule import Schedule
from .step import Step
from .validate import ValidationSet, validate

TOO_FAST = "lower the learning rates and begin anew with --restart"
"""Advice where numbers are no longer finite."""


class _Stateful(Protocol):
    """A part of a run that a checkpoint keeps."""

    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any, /) -> Any: ...


class Run:
    """A model in training, with everything that a checkpoint must hold to go on exactly.

    Args:
        config: the run's settings.
        accelerator: brings the processes of the run together.
        model: the towers, on the accelerator's device.
        out: the run's folder, for the checkpoint.
        data: the fingerprint of the run's data.
        validation: images and captions that choose the best epoch, if there are any.
        updates: optimiser steps in an epoch.
    """

    model: DualEncoder
    average: AveragedModel | None
    """The moving average of the weights, with `config.ema`."""
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    step: Step
    """Forward and backward passes and updates; holds the scaler of gradients."""
    progress: Progress
    best: dict[str, Tensor]
    """The weights of the best epoch, on the CPU; empty before one is done."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        model: DualEncoder,
        *,
        out: Path,
        data: str,
        validation: ValidationSet | None,
        updates: int,
    ) -> None:
        self._config = config
        self._accelerator = accelerator
        self._out = out
        self._data = data
        self._validation = validation
        self.model = model
        self.optimiser = torch.optim.AdamW(parameter_groups(model, config))
        self.schedule = Schedule(self.optimiser, config, updates)
        self.step = Step(
            config, accelerator, accelerator.prepare_model(model), model, self.optimiser
        )
        self.average = (
            AveragedModel(model, multi_avg_fn=moving_average(config.ema)) if config.ema else None
        )
        self.progress, self.best = Progress(monitor=config.monitor), {}

    @property
    def evaluated(self) -> DualEncoder:
        """The model that is validated and written: the average where there is one."""
        return self.model if self.average is None else cast(DualEncoder, self.average.module)

    @property
    def ended(self) -> bool:
        """Whether all epochs are done, or too many without an improvement."""
        return self.progress.ended(self._config)

    def save(self) -> None:
        """Write the checkpoint; every process calls this, and the main one writes.

        Raises:
            TrainingError: the file cannot be written. The last checkpoint then stays.
        """
        random = gather_object([random_state()])
        if self._accelerator.is_main_process:
            progress = self.progress
            save_checkpoint(
                self._out,
                {name: part.state_dict() for name, part in self._parts().items()}
                | {"config": self._config.model_dump_json(), "data": self._data,
                   "progress": json.dumps(asdict(progress)), "best": self.best, "random": random,
                   "epoch": progress.epoch, "epochs": self._config.epochs,
                   "finished": self.ended},
            )  # fmt: skip

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint of `load_checkpoint`.

        Raises:
            TrainingError: it was trained on other data.
        """
        check_data(self._out, state, self._data)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.progress, self.best = Progress(**json.loads(state["progress"])), state["best"]
        set_random_state(state["random"][self._accelerator.process_index])

    def update(self) -> None:
        """Update the weights by the gradients of a group of batches, and the rates after it."""
        self.step.update()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def validate(self) -> dict[str, Any]:
        """Return loss and retrieval metrics of `evaluated`, computed in one process for all.

        Returns:
            Loss, both directions and chance (`retrieval_metrics`); empty without validation images.
        """
        metrics: list[dict[str, Any]] = [{}]
        if self._validation is not None and self._accelerator.is_main_process:
            metrics = [validate(self.evaluated, self._validation, self._config)]
        return cast(dict[str, Any], broadcast_object_list(metrics)[0])

    def keep_best(self) -> None:
        """Copy the weights of `evaluated` to `best`."""
        weights = self.evaluated.state_dict()
        self.best = {name: each.detach().to("cpu", copy=True) for name, each in weights.items()}

    def unfreeze_due_towers(self, epoch: int) -> None:
        """Unfreeze each tower whose `unfreeze_after` epochs are done before `epoch` starts."""
        config = self._config
        due = [
            tower
            for tower, settings in (
                (self.model.image_tower, config.image), (self.model.text_tower, config.text)
            )
            if tower.frozen
            and settings.unfreeze_after is not None
            and epoch > settings.unfreeze_after
        ]  # fmt: skip
        for tower in due:
            tower.unfreeze()
        if due:  # there are more gradients to bring together now
            self.step.model = self._accelerator.prepare_model(self.model)

    def check_weights(self) -> None:
        """Keep weights that are not finite out of checkpoint and bundle.

        An update may break them after a loss that was finite.

        Raises:
            TrainingError: they are not finite.
        """
        if not all(torch.isfinite(parameter).all() for parameter in self.model.parameters()):
            progress = self.progress
            place = f"epoch {progress.epoch + bool(progress.step)}"
            place += f", batch {progress.step}" if progress.step else ""
            raise TrainingError(f"{place}: weights are no longer finite; {TOO_FAST}")

    def _parts(self) -> dict[str, _Stateful]:
        """Return the parts of a checkpoint, by name, in the order of loading.

        The schedule follows the optimiser, whose rates it sets.
        """
        average = {} if self.average is None else {"average": self.average}
        return {
            "model": self.model, "optimiser": self.optimiser, "schedule": self.schedule,
            "scaler": self.step.scaler, **average,
        }  # fmt: skip
