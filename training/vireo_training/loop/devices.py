"""The processes and devices that train as one."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration
from torch import Tensor
from vireo_client.errors import TrainingError
from vireo_client.progress import console

from ..config import TrainConfig


def make_accelerator(config: TrainConfig, out: Path) -> Accelerator:
    """Join this process to the others of its run, and start the trackers.

    All processes but the main one print and log errors only.

    Args:
        config: names the trackers.
        out: the run's folder; TensorBoard writes to `out/logs`.

    Raises:
        TrainingError: a tracker in `config.trackers` is not installed.
    """
    missing = set(config.trackers) - {tracker.value for tracker in get_available_trackers()}
    if missing:
        raise TrainingError(f"trackers: {', '.join(sorted(missing))} is not installed")
    accelerator = Accelerator(
        # Without a GPU, several processes only find each other when they stay on the CPU.
        cpu="WORLD_SIZE" in os.environ and not torch.cuda.is_available(),
        mixed_precision="no",  # `Step` chooses the precision
        log_with=["tensorboard", *config.trackers],
        # One process decodes and validates while the others wait, on large sets for hours. When
        # one process fails, the launcher ends all of them.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=2))],
        project_config=ProjectConfiguration(str(out), logging_dir=str(out / "logs")),
    )
    if not accelerator.is_main_process:
        console.quiet = True
        for package in ("vireo_client", "vireo_training"):
            logging.getLogger(package).setLevel(logging.ERROR)
    accelerator.init_trackers("vireo")
    return accelerator


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Return whether `flag` is true in any process: all of them must do the same."""
    if accelerator.num_processes == 1:
        return flag
    total = accelerator.reduce(torch.tensor([float(flag)], device=accelerator.device))
    return bool(total.item())


def random_state() -> dict[str, Tensor]:
    """Return the state of torch's random generators in this process."""
    cuda = {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"cpu": torch.get_rng_state(), **cuda}


def set_random_state(state: dict[str, Tensor]) -> None:
    """Set torch's random generators to what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
