"""Presets, the small JSON files in this folder; every value of one can be overridden."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from vireo_client.errors import TrainingError

from ..config import TrainConfig


def preset_names() -> list[str]:
    """Return the names of the presets."""
    folder = resources.files(__package__)
    return sorted(Path(str(f)).stem for f in folder.iterdir() if str(f).endswith(".json"))


def preset_about(preset: str) -> str:
    """Return the line "about" of a preset; "" where it has none.

    Raises:
        TrainingError: an unknown preset, or a file that is no preset.
    """
    return str(_read(preset).get("about", ""))


FINE_TUNING: dict[str, Any] = {
    "image": {"head": {"kind": "none"}},
    "text": {"head": {"kind": "none"}},
    "epochs": 5,
    "batch_size": 64,
    "captions_per_picture": 2,
    "lr_image": 1e-5,
    "lr_text": 1e-5,
    "lr_head": 1e-3,
    "weight_decay": 0.1,
    "text_augment": {"bare": 0.2},
}
"""Settings of `--from` without `--preset`. Without heads, embeddings stay in the model's space."""


def load_config(
    preset: str | None, overrides: Sequence[str] = (), *, source: str | None = None
) -> TrainConfig:
    """Read a preset, by name or from a JSON file, and apply `overrides`.

    Its line "about" is for people and no setting (see `preset_about`).

    Args:
        preset: a name from `preset_names`, or a path ending in `.json`; None takes `FINE_TUNING`.
        overrides: `KEY=VALUE` with dots into nested settings; the value is JSON where it parses as
            such and text otherwise: `image.size=128`, `image.weights=resnet.safetensors`.
        source: a model to fine-tune (`SourceConfig.name`).

    Raises:
        TrainingError: an unknown preset or key, or a value that does not fit.
    """
    settings = copy.deepcopy(FINE_TUNING) if preset is None else _read(preset)
    settings.pop("about", None)
    if source is not None:
        _assign(settings, ["source", "name"], source)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise TrainingError(f"--set {override!r}: write it as KEY=VALUE, like epochs=10")
        _assign(settings, key.strip().split("."), _parse(value))
    try:
        return TrainConfig.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        message = first["msg"]
        if first["type"] == "extra_forbidden":
            message = f"there is no such setting{_similar(where)}"
        raise TrainingError(f"{preset or '--from'}: {where}: {message}") from None


def _read(preset: str) -> dict[str, Any]:
    """Return the settings of a preset, by name or as a file, as they are written."""
    if preset.endswith(".json"):
        path = Path(preset)
        if not path.is_file():
            raise TrainingError(f"{preset}: no such file")
        text = path.read_text(encoding="utf-8")
    elif preset in preset_names():
        text = (resources.files(__package__) / f"{preset}.json").read_text("utf-8")
    else:
        raise TrainingError(f"preset {preset!r} is unknown; there are {', '.join(preset_names())}")
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise TrainingError(f"{preset}: not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise TrainingError(f"{preset}: not a JSON object of settings")
    return settings


def _similar(key: str) -> str:
    """Return a hint at the settings whose names are like `key`; --show where none is."""
    known = _names(TrainConfig)
    like = get_close_matches(key, known, n=2) or [
        name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]
    ]
    return f"; is it {' or '.join(like)}?" if like else "; --show lists all"


def _names(settings: type[BaseModel], before: str = "") -> list[str]:
    """Return the names of all settings, nested ones with dots."""
    names: list[str] = []
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names += _names(field.annotation, f"{before}{name}.")
        else:
            names.append(before + name)
    return names


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _assign(settings: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for name in parents:
        settings = settings.setdefault(name, {})
        if not isinstance(settings, dict):
            raise TrainingError(f"--set {'.'.join(path)}: {name!r} holds a value, not settings")
    settings[last] = value
