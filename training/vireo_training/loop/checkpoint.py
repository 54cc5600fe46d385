"""Checkpoints: a whole run in one file, replaced in one step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vireo_client.bundle import BUNDLE_FILE
from vireo_client.errors import TrainingError
from vireo_client.files import replacing_file

from ..config import TrainConfig
from ..data.captions import Captions
from ..data.prepare import Prepared
from .history import flatten

CHECKPOINT_FILE = "checkpoint.pt"
_VERSION = 1
_MAY_CHANGE = {"epochs", "patience", "trackers", "compile", "checkpoint_minutes"}
"""Settings that may differ in a resumed run: they change when it ends, not what it learns."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `folder/checkpoint.pt`; an earlier one stays until the new one is complete.

    Args:
        state: tensors, numbers, texts, and lists and dictionaries of them.

    Raises:
        TrainingError: the file cannot be written, as on a full disk.
    """
    path = folder / CHECKPOINT_FILE
    try:
        with replacing_file(path) as file:
            torch.save({"version": _VERSION, **state}, file)
    # torch's writer reports a file that cannot grow as a RuntimeError of its own.
    except (OSError, RuntimeError) as error:
        earlier = "the last one is whole: free some room and use --resume" if path.is_file() else (
            "free some room"
        )  # fmt: skip
        raise TrainingError(f"{path}: cannot be written ({_reason(error)}); {earlier}") from error


def load_checkpoint(folder: Path, config: TrainConfig, devices: int) -> dict[str, Any]:
    """Read `folder/checkpoint.pt`; `check_data` compares the data once they are prepared.

    Args:
        config: the settings of the resumed run; they must be those of the checkpoint.
        devices: the number of its devices, likewise.

    Raises:
        TrainingError: there is no checkpoint, it is damaged, or it is of another run; the message
            names the difference.
    """
    path = folder / CHECKPOINT_FILE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
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
    saved, current = (
        flatten(settings, ".")
        for settings in (json.loads(state["config"]), config.model_dump(mode="json"))
    )
    # A setting that an older vireo did not have was what its default is now.
    defaults = flatten(TrainConfig().model_dump(mode="json"), ".")
    for key in [*current, *saved]:
        before = saved.get(key, defaults.get(key))
        if key.split(".")[0] not in _MAY_CHANGE and before != current.get(key):
            raise TrainingError(
                f"{path}: is of another run: {key} was {before!r} and is "
                f"{current.get(key)!r} now; resume with the preset and settings it began with, or "
                "train in another --out"
            )
    if len(state["random"]) != devices:
        raise TrainingError(
            f"{path}: is of a run on {len(state['random'])} device(s), and there are {devices} "
            "now; resume on as many"
        )
    return state


def check_data(folder: Path, state: dict[str, Any], data: str) -> None:
    """Compare the data that a checkpoint was trained on with those of the resumed run.

    Args:
        state: the checkpoint in `folder`.
        data: the fingerprint of the resumed run's data.

    Raises:
        TrainingError: they differ.
    """
    if state["data"] != data:
        raise TrainingError(
            f"{folder / CHECKPOINT_FILE}: it was trained on other data (images, "
            "captions, weights of sources, validation, tokenizer or segmenter differ); resume "
            "with the same, or train in another --out"
        )


def unfinished(folder: Path) -> str | None:
    """Return how far an unfinished run in `folder` came; None where there is none."""
    path, bundle = folder / CHECKPOINT_FILE, folder / "bundle" / BUNDLE_FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not state["finished"]:
            return f"{state['epoch']} of {state['epochs']} epochs done"
        if not bundle.is_file() or bundle.stat().st_mtime < path.stat().st_mtime:
            return "trained, its bundle not written"
    except Exception:  # a checkpoint that cannot be read is no loss
        return None
    return None


def fingerprint(prepared: Prepared) -> str:
    """Hash a run's data: the names of images, their weights, and all captions as ids.

    Ids and tokenizer together also depend on the segmenter, and on all captions that the tokenizer
    was trained on.
    """
    digest = hashlib.sha256(prepared.text_path.tokenizer.as_json().encode())
    for subset in (prepared.train, prepared.validation):
        digest.update(
            json.dumps([r.path.name for r in subset.records] if subset else None).encode()
        )
    digest.update(np.ascontiguousarray(prepared.mixture.weights).data)
    held = prepared.validation.captions if prepared.validation else None
    for captions in (prepared.train.captions, held, prepared.others, prepared.classes):
        for numbers in _arrays(captions):
            digest.update(str(len(numbers)).encode())
            digest.update(np.ascontiguousarray(numbers).data)
    return digest.hexdigest()[:16]


def _arrays(captions: Captions | None) -> Iterator[np.ndarray[Any, Any]]:
    if captions is not None:
        yield captions.starts
        for ragged in captions.variants:
            yield from (ragged.starts, ragged.values)


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
