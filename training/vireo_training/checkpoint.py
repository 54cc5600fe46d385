"""Checkpoints: one file that holds a whole run, replaced in one step."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from vireo_client.captions import CaptionedImage
from vireo_client.errors import TrainingError

from .config import TrainConfig

CHECKPOINT_FILE = "checkpoint.pt"
_VERSION = 1
_MAY_CHANGE = {"epochs", "patience", "trackers", "compile", "checkpoint_minutes"}
"""Settings that a resumed run may have otherwise: they change how it ends, not what it is."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `folder/checkpoint.pt`; the one that was there stays whole until this one is.

    Args:
        state: tensors, numbers, texts, and lists and dictionaries of them.

    Raises:
        TrainingError: it cannot be written, as on a full disk.
    """
    path = folder / CHECKPOINT_FILE
    draft = folder / f".{CHECKPOINT_FILE}.{os.getpid()}"
    try:
        with draft.open("wb") as file:
            torch.save({"version": _VERSION, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    # torch's writer reports a file that cannot grow as a RuntimeError of its own.
    except (OSError, RuntimeError) as error:
        earlier = "the last one is whole: free some room and use --resume" if path.is_file() else (
            "free some room"
        )  # fmt: skip
        raise TrainingError(f"{path}: cannot be written ({_reason(error)}); {earlier}") from error
    finally:
        draft.unlink(missing_ok=True)


def load_checkpoint(folder: Path, config: TrainConfig, data: str) -> dict[str, Any]:
    """Reads `folder/checkpoint.pt`.

    Args:
        config: the settings of the run that goes on; they must be those of the checkpoint.
        data: the fingerprint of its training data, likewise.

    Raises:
        TrainingError: there is none, it is damaged, or of another run; the message says what
            differs.
    """
    path = folder / CHECKPOINT_FILE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file; leave --resume out to begin") from None
    except Exception as error:  # pickle, zip and torch raise many kinds
        raise TrainingError(
            f"{path}: cannot be read ({_reason(error)}); begin anew without --resume"
        ) from error
    if state.get("version") != _VERSION:
        raise TrainingError(
            f"{path}: of version {state.get('version')}, this vireo reads {_VERSION}; "
            "resume with the vireo that wrote it"
        )
    there, here = json.loads(state["config"]), config.model_dump(mode="json")
    for key, mine in _flat(here).items():
        if key.split(".")[0] not in _MAY_CHANGE and _flat(there).get(key) != mine:
            raise TrainingError(
                f"{path}: is of another run: {key} was {_flat(there).get(key)!r} and is {mine!r} "
                "now; resume with the preset and settings it began with, or train in another --out"
            )
    if state["data"] != data:
        raise TrainingError(
            f"{path}: its training data was other than this (pictures or captions differ); resume "
            "with the same data, or train in another --out"
        )
    return state


def unfinished(folder: Path) -> str | None:
    """Says how far a run in `folder` came that has neither ended nor been given up."""
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return None if state["finished"] else f"{state['epoch']} of {state['epochs']} epochs done"
    except Exception:  # a checkpoint that cannot be read is nothing to lose
        return None


def fingerprint(records: Sequence[CaptionedImage]) -> str:
    """Hashes names and captions of the training pictures."""
    told = [(record.path.name, record.captions) for record in records]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, dict) and bool(value)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
