"""What training runs leave, to compare one with another bit for bit."""

import json
from pathlib import Path
from typing import Any

import torch
from vireo_training.loop.checkpoint import CHECKPOINT_FILE


def history(run: Path) -> list[dict[str, Any]]:
    """Return all that the lines of a run's epochs hold but their times."""
    lines = [json.loads(line) for line in (run / "history.jsonl").open()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "waiting")} for line in lines]


def checkpoint(run: Path) -> dict[str, Any]:
    """Return the checkpoint of a run."""
    return torch.load(run / CHECKPOINT_FILE, weights_only=True)


def assert_same_state(mine: Path, theirs: Path) -> None:
    """Hold two runs to the same history, and to checkpoints of the same bits."""
    a, b = checkpoint(mine), checkpoint(theirs)
    for state in (a, b):
        del state["progress"], state["config"]  # seconds; how often to save
    assert not _differences(a, b)
    assert history(mine) == history(theirs)


def _differences(a: object, b: object, place: str = "/") -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and torch.equal(a, b) else [place]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for key in a for d in _differences(a[key], b[key], f"{place}{key}/")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for n, (x, y) in enumerate(zip(a, b, strict=True))
                for d in _differences(x, y, f"{place}{n}/")]  # fmt: skip
    return [] if a == b else [place]
