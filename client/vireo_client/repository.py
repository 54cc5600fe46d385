"""What lies where in a model repository, shared by those who write it and those who read it.

    repository/
        versions.json                 which versions are kept and which one is in use
        bundle.json, tokenizer.json   the version in use, for clients; parity.json: its proof
        text_encoder/
            config.pbtxt              pins the version in use
            3/                        a version: the engine, and its own config.pbtxt
            warmup/3/                 what Triton runs before it says that the version is ready
        embed_text/3/release/         the version's own bundle.json and the like

Every model has the same version numbers. A version is self-contained, so that going back to it is a
matter of copying its small files to where Triton and the clients look (`rollback.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from .errors import BundleError

TEXT_MODEL = "text_encoder"
IMAGE_MODEL = "image_encoder"
MODELS = (TEXT_MODEL, IMAGE_MODEL)
"""The towers: ids or pixels to vectors."""
PREPROCESS_TEXT = "preprocess_text"
PREPROCESS_IMAGE = "preprocess_image"
MASK_ROWS = "mask_rows"
EMBED_TEXT = "embed_text"
EMBED_IMAGE = "embed_image"
ALL_MODELS = (*MODELS, PREPROCESS_TEXT, PREPROCESS_IMAGE, MASK_ROWS, EMBED_TEXT, EMBED_IMAGE)
"""All that Triton serves; target `cpu` has no `MASK_ROWS`."""

ENGINE_FILE = "model.onnx"
CONFIG_FILE = "config.pbtxt"
VERSIONS_FILE = "versions.json"
PARITY_FILE = "parity.json"
"""Only what passed the gate has it: the mark of a model repository."""
BUNDLE_PARAMETER = "bundle_id"
"""Key under `parameters` in a model's configuration: which bundle the engine was made from."""

QUERY_PRIORITY = 1
"""Of requests that name none. Triton serves lower numbers first."""
BULK_PRIORITY = 2
"""Of indexing, which any query overtakes."""


class Versions(NamedTuple):
    """The contents of `versions.json`."""

    current: int
    """The version in use."""
    kept: tuple[int, ...]
    """All that can be used, ascending."""


def read_versions(repository: Path) -> Versions:
    """Tells the versions of a repository.

    One without `versions.json` was written before there were any: its newest model counts, and
    nothing is kept.

    Raises:
        BundleError: `versions.json` is damaged.
    """
    path = repository / VERSIONS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Versions(int(raw["current"]), tuple(sorted(map(int, raw["kept"]))))
    except FileNotFoundError:
        return Versions(highest_version(repository) or 1, ())
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{path}: cannot be read ({error!r}); export the model repository again"
        ) from error


def write_versions(repository: Path, versions: Versions) -> None:
    """Writes `versions.json`."""
    text = json.dumps({"current": versions.current, "kept": list(versions.kept)})
    (repository / VERSIONS_FILE).write_text(text + "\n", encoding="utf-8")


def current_version(repository: Path) -> int:
    """The version of every model that is in use.

    Raises:
        BundleError: `versions.json` is damaged.
    """
    return read_versions(repository).current


def highest_version(repository: Path) -> int:
    """The highest version that any tower has on disk, 0 without any."""
    folders = (folder for model in MODELS for folder in (repository / model).glob("*"))
    return max((int(f.name) for f in folders if f.name.isdecimal() and f.is_dir()), default=0)


def release_folder(repository: Path, version: int) -> Path:
    """Where a version keeps the files that lie at the repository's root while it is in use."""
    return repository / EMBED_TEXT / str(version) / "release"


def model_file(repository: Path, model: str) -> Path:
    """Finds the ONNX file of `model`, in the version in use.

    Raises:
        BundleError: the folder is no model repository, or the version holds no ONNX file.
    """
    folder = repository / model / str(current_version(repository))
    path = folder / ENGINE_FILE
    if not path.is_file():
        if engines := [file.name for file in folder.glob("model.*") if file.suffix != ".py"]:
            raise BundleError(
                f"{folder}: holds {engines[0]}, which runs in Triton alone; start it with "
                f"`vireo serve {repository}` and give --triton HOST:PORT"
            )
        raise BundleError(
            f"{repository}: no {model} here; `vireo export BUNDLE` writes a model repository"
        )
    return path
