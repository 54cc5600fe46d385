"""The layout of a model repository, shared by the packages that write it and that read it.

    repository/
        versions.json                 which versions are kept and which one is in use
        bundle.json, tokenizer.json   the version in use, for clients
        parity.json                   the parity of its engines, as measured
        neutral_queries.json          embeddings from which an index learns relevance
        text_encoder/
            config.pbtxt              pins the version in use
            3/                        a version: the engine, and its own config.pbtxt
            warmup/3/                 requests that Triton runs before the version is ready
        embed_text/3/release/         the version's own bundle.json and the like

Every model has the same version numbers. A version is self-contained: a rollback copies its small
files to the places where Triton and the clients look.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from .errors import BundleError

TEXT_MODEL = "text_encoder"
IMAGE_MODEL = "image_encoder"
MODELS = (TEXT_MODEL, IMAGE_MODEL)
"""The models of the two towers, which turn ids or pixels into embeddings."""
PREPROCESS_TEXT = "preprocess_text"
PREPROCESS_IMAGE = "preprocess_image"
MASK_ROWS = "mask_rows"
EMBED_TEXT = "embed_text"
EMBED_IMAGE = "embed_image"
ALL_MODELS = (*MODELS, PREPROCESS_TEXT, PREPROCESS_IMAGE, MASK_ROWS, EMBED_TEXT, EMBED_IMAGE)
"""All models that Triton serves; target `cpu` has no `MASK_ROWS`."""

ENGINE_FILE = "model.onnx"
CONFIG_FILE = "config.pbtxt"
VERSIONS_FILE = "versions.json"
PARITY_FILE = "parity.json"
"""The report of parity. Only a repository that passed the gate has it: it marks the folder."""
BUNDLE_PARAMETER = "bundle_id"
"""The key under `parameters` in a model's configuration that names the bundle of its engine."""

QUERY_PRIORITY = 1
"""The priority of requests that name none. Triton serves lower numbers first."""
BULK_PRIORITY = 2
"""The priority of indexing: any query overtakes it."""


class Versions(NamedTuple):
    """The contents of `versions.json`."""

    current: int
    """The version in use."""
    kept: tuple[int, ...]
    """The versions that are kept, ascending: those to which a rollback can go."""


def read_versions(repository: Path) -> Versions:
    """Read the versions of a repository.

    An old repository has no `versions.json`: its newest model is in use, and no version is kept.

    Raises:
        BundleError: `versions.json` is damaged.
    """
    path = repository / VERSIONS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Versions(int(raw["current"]), tuple(sorted(map(int, raw["kept"]))))
    except FileNotFoundError:
        return Versions(highest_version(repository) or 1, ())
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(
            f"{path}: cannot be read ({error!r}); export the model repository again"
        ) from error


def write_versions(repository: Path, versions: Versions) -> None:
    """Write `versions.json`."""
    text = json.dumps({"current": versions.current, "kept": list(versions.kept)})
    (repository / VERSIONS_FILE).write_text(text + "\n", encoding="utf-8")


def current_version(repository: Path) -> int:
    """Return the version in use, which all models share.

    Raises:
        BundleError: `versions.json` is damaged.
    """
    return read_versions(repository).current


def is_version(name: str) -> bool:
    """Return whether a folder of this name is a version: a whole number, as Triton counts them."""
    return name.isascii() and name.isdecimal() and len(name) < 19


def highest_version(repository: Path) -> int:
    """Return the highest version that a tower has on disk; 0 if there is none."""
    folders = (folder for model in MODELS for folder in (repository / model).glob("*"))
    return max((int(f.name) for f in folders if is_version(f.name) and f.is_dir()), default=0)


def release_folder(repository: Path, version: int) -> Path:
    """Return a version's own copy of the files that lie at the root while it is in use."""
    return repository / EMBED_TEXT / str(version) / "release"


def model_file(repository: Path, model: str) -> Path:
    """Find the ONNX file of `model`, in the version in use.

    Raises:
        BundleError: the folder is no model repository, or the version holds no ONNX file.
    """
    folder = repository / model / str(current_version(repository))
    path = folder / ENGINE_FILE
    if not path.is_file():
        if engines := [file.name for file in folder.glob("model.*") if file.suffix != ".py"]:
            raise BundleError(
                f"{folder}: holds {engines[0]}, which runs in Triton alone; start it with "
                f"`vireo serve {shlex.quote(str(repository))}` and give --triton HOST:PORT"
            )
        raise BundleError(
            f"{repository}: no {model} here; `vireo export BUNDLE` writes a model repository"
        )
    return path
