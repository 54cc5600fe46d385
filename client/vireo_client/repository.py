"""Names inside a Triton model repository, shared by those who write it and those who read it."""

from __future__ import annotations

from pathlib import Path

from .errors import BundleError

TEXT_MODEL = "text_encoder"
IMAGE_MODEL = "image_encoder"
MODELS = (TEXT_MODEL, IMAGE_MODEL)
ENGINE_FILE = "model.onnx"
BUNDLE_PARAMETER = "bundle_id"
"""Key under `parameters` in a model's configuration: which bundle the engine was made from."""


def model_file(repository: Path, model: str) -> Path:
    """Finds the newest version's ONNX file of `model`.

    Raises:
        BundleError: the folder is no model repository, or the model has no version in it.
    """
    folder = repository / model
    versions = [int(f.name) for f in folder.glob("*") if f.name.isdigit() and f.is_dir()]
    path = folder / str(max(versions, default=1)) / ENGINE_FILE
    if not path.is_file():
        raise BundleError(
            f"{repository}: no {model} here; `vireo export BUNDLE` writes a model repository"
        )
    return path
