"""Runs that SIGKILL ends at random places, bit for bit as those that nothing ended."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import pytest
import torch
from support.runs import assert_same_state
from vireo_client.bundle import Bundle
from vireo_training.config import TrainConfig
from vireo_training.loop import checkpoint
from vireo_training.loop import train as module
from vireo_training.loop.checkpoint import CHECKPOINT_FILE
from vireo_training.loop.train import train
from vireo_training.presets import load_config

EPOCHS = 5
KILLS = int(os.environ.get("VIREO_TEST_KILLS", "2"))
"""Kills for each of three schedules; seven take a minute."""
# Of five epochs, the first two are the warm-up. Everything that holds a state is on.
SETTINGS = [f"epochs={EPOCHS}", "warmup_epochs=2", "batch_size=8", "text.layers=1",
            "text.segmenter=none", "text.width=16", "text.dropout=0.1", "image.size=32",
            "image.resize=36", "augment.crop=0.8", "accumulate=2", "ema=0.9",
            "validation_fraction=0.2", "plateau_patience=0", "plateau_factor=0.3"]  # fmt: skip


def _killed(config: TrainConfig, data: Path, out: Path, *, batch: int | None, save: int) -> None:
    """Train in a process that kills itself after a batch, or while it writes a checkpoint."""
    child = os.fork()
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        return
    try:  # never back to pytest
        batches, write, counts = module.batches_ahead, torch.save, {"batches": 0, "saves": 0}

        def ahead(*arguments):
            for each in batches(*arguments):
                yield each
                counts["batches"] += 1
                if counts["batches"] == batch:
                    os.kill(os.getpid(), signal.SIGKILL)

        def save_and_die(state, file):
            write(state, file)
            counts["saves"] += 1
            if batch is None and counts["saves"] == save:
                os.kill(os.getpid(), signal.SIGKILL)

        module.batches_ahead, checkpoint.torch.save = ahead, save_and_die
        train(config, data, out)
    except BaseException as error:  # the parent sees the exit status; say why
        print(error, file=sys.stderr)
    finally:
        os._exit(1)


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_killed_runs_end_as_the_uninterrupted_one(scenes, tmp_path, rates, schedule):
    data = scenes / "test"
    config = load_config("scenes", [*SETTINGS, f"schedule={schedule}"])
    train(config, data, tmp_path / "whole")
    expected = rates.copy()
    bundle = Bundle(tmp_path / "whole" / "bundle").config
    epoch = bundle.provenance["pictures"]["train"] // config.batch_size  # in batches
    draw = random.Random(schedule)
    # While a checkpoint is written, in the warm-up, in the last epoch, and anywhere.
    first = [None, draw.randint(epoch + 1, 2 * epoch), draw.randint(4 * epoch + 1, EPOCHS * epoch)]
    places = [*first, *(draw.choice([None, *range(1, EPOCHS * epoch)]) for _ in range(KILLS))]
    for number, batch in enumerate(places[:KILLS]):
        out = tmp_path / str(number)
        # Some runs write a checkpoint after every update, not only after every epoch.
        minutes = draw.choice([10.0, 1e-9])
        often = config.model_copy(update={"checkpoint_minutes": minutes})
        _killed(often, data, out, batch=batch, save=draw.randint(2, EPOCHS - 1))
        rates.clear()
        resume = (out / CHECKPOINT_FILE).is_file()
        train(config, data, out, resume=resume)
        assert rates == expected[len(expected) - len(rates) :]
        assert_same_state(out, tmp_path / "whole")
        assert resume or len(rates) == len(expected)
