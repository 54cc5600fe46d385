"""Checkpoints: one file that holds a whole run, replaced in one step."""

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
"""Settings that a resumed run may have otherwise: they change how it ends, not what it is."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Writes `folder/checkpoint.pt`; the one that was there stays whole until this one is.

    Args:
        state: tensors, numbers, texts, and lists and dictionaries of them.

    Raises:
        TrainingError: it cannot be written, as on a full disk.
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
    """Reads `folder/checkpoint.pt`; `check_data` looks at the data once they are prepared.

    Args:
        config: the settings of the run that goes on; they must be those of the checkpoint.
        devices: how many it has, likewise.

    Raises:
        TrainingError: there is none, it is damaged, or of another run; the message says what
            differs.
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
    there, here = (
        flatten(settings, ".")
        for settings in (json.loads(state["config"]), config.model_dump(mode="json"))
    )
    for key in [*here, *there]:
        if key.split(".")[0] not in _MAY_CHANGE and there.get(key) != here.get(key):
            raise TrainingError(
                f"{path}: is of another run: {key} was {there.get(key)!r} and is "
                f"{here.get(key)!r} now; resume with the preset and settings it began with, or "
                "train in another --out"
            )
    if len(state["random"]) != devices:
        raise TrainingError(
            f"{path}: is of a run on {len(state['random'])} device(s), and there are {devices} "
            "now; resume on as many"
        )
    return state


def check_data(folder: Path, state: dict[str, Any], data: str) -> None:
    """Compares the data that a checkpoint was trained on with those of the run that goes on.

    Args:
        state: the checkpoint in `folder`.
        data: the run's fingerprint.

    Raises:
        TrainingError: they differ.
    """
    if state["data"] != data:
        raise TrainingError(
            f"{folder / CHECKPOINT_FILE}: its training data was other than this (images, "
            "captions, weights of sources, validation, tokenizer or segmenter differ); resume "
            "with the same, or train in another --out"
        )


def unfinished(folder: Path) -> str | None:
    """Says how far a run in `folder` came that has neither ended nor been given up."""
    path, bundle = folder / CHECKPOINT_FILE, folder / "bundle" / BUNDLE_FILE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not state["finished"]:
            return f"{state['epoch']} of {state['epochs']} epochs done"
        if not bundle.is_file() or bundle.stat().st_mtime < path.stat().st_mtime:
            return "trained, its bundle not written"
    except Exception:  # a checkpoint that cannot be read is nothing to lose
        return None
    return None


def fingerprint(prepared: Prepared) -> str:
    """Hashes what a run draws from: names of images, their weights, and all captions as ids.

    With the tokenizer, ids tell what the segmenter did and all that the tokenizer was trained on.
    """
    digest = hashlib.sha256(prepared.text_path.tokenizer.as_json().encode())
    for side in (prepared.train, prepared.validation):
        digest.update(json.dumps([r.path.name for r in side.records] if side else None).encode())
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
