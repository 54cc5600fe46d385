"""Runs that SIGKILL ends at random places, bit for bit as those that nothing ended."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

import pytest
import torch
from vireo_client.bundle import Bundle
from vireo_training.config import TrainConfig, load_config
from vireo_training.loop import checkpoint
from vireo_training.loop import train as module
from vireo_training.loop.checkpoint import CHECKPOINT_FILE
from vireo_training.loop.step import Step
from vireo_training.loop.train import train

EPOCHS = 5
KILLS = int(os.environ.get("VIREO_TEST_KILLS", "2"))
"""Kills for each of three schedules; seven take a minute."""
# Of five epochs, the first two are the warm-up. Everything that holds a state is on.
SETTINGS = [f"epochs={EPOCHS}", "warmup_epochs=2", "batch_size=8", "text.layers=1",
            "text.segmenter=none", "text.width=16", "text.dropout=0.1", "image.size=32",
            "image.resize=36", "augment.crop=0.8", "accumulate=2", "ema=0.9",
            "validation_fraction=0.2", "plateau_patience=0", "plateau_factor=0.3"]  # fmt: skip


@pytest.fixture
def rates(monkeypatch):
    """Collects the rates of all parameter groups at each update of any run."""
    seen, plain = [], Step.update

    def update(step):
        seen.append([group["lr"] for group in step._optimiser.param_groups])
        plain(step)

    monkeypatch.setattr(Step, "update", update)
    return seen


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


def _history(folder: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (folder / "history.jsonl").open()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "waiting")} for line in lines]


def _differences(a: object, b: object, place: str = "") -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and torch.equal(a, b) else [place]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for key in a for d in _differences(a[key], b[key], f"{place}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for n, (x, y) in enumerate(zip(a, b, strict=True))
                for d in _differences(x, y, f"{place}/{n}")]  # fmt: skip
    return [] if a == b else [place]


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_killed_runs_end_as_the_uninterrupted_one(scenes, tmp_path, rates, schedule):
    data = scenes / "test"
    config = load_config("scenes", [*SETTINGS, f"schedule={schedule}"])
    train(config, data, tmp_path / "whole")
    expected = rates.copy()
    bundle = Bundle(tmp_path / "whole" / "bundle").config
    epoch = bundle.provenance["pictures"]["train"] // config.batch_size  # in batches
    whole = torch.load(tmp_path / "whole" / CHECKPOINT_FILE, weights_only=True)
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
        assert _history(out) == _history(tmp_path / "whole")
        mine = torch.load(out / CHECKPOINT_FILE, weights_only=True)
        for key in ("model", "average", "optimiser", "schedule", "scaler", "random", "best"):
            assert not _differences(mine[key], whole[key], key)
        assert resume or len(rates) == len(expected)
