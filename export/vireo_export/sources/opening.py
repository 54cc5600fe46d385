"""Open sources: bundles, models of transformers, models of open_clip."""

from __future__ import annotations

import re
from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE, Bundle
from vireo_client.errors import ExportError
from vireo_training.models.bundle_writer import load_model

from .source import Source


def open_source(name: str | Path) -> Source:
    """Load a source.

    Args:
        name: the folder of a bundle that training wrote; a dual encoder of transformers, as
            `hf:OWNER/NAME` or a folder with its `config.json`; or one of open_clip, as
            `open_clip:MODEL@WEIGHTS`, `hf-hub:OWNER/NAME` or a folder with its
            `open_clip_config.json`.

    Raises:
        BundleError: the bundle is incomplete or holds no weights.
        ExportError: there is no such model, or it cannot be exported.
    """
    text = str(name)
    # Imported here because a bundle needs neither library.
    if text.startswith("hf:"):
        from .huggingface import open_huggingface

        return open_huggingface(text.removeprefix("hf:"))
    if text.startswith(("open_clip:", "hf-hub:")):
        from .open_clip import open_open_clip

        return open_open_clip(text.removeprefix("open_clip:"))
    folder = Path(name)
    if not folder.is_dir():
        raise ExportError(
            f"{name}: no such folder; a model of the Hugging Face hub is named hf:OWNER/NAME, "
            "one of open_clip open_clip:MODEL@WEIGHTS"
        )
    if not (folder / BUNDLE_FILE).is_file():
        # Some folders suit both libraries; open_clip's file is the more specific one.
        if (folder / "open_clip_config.json").is_file():
            from .open_clip import open_open_clip

            return open_open_clip(f"local-dir:{folder}")
        if (folder / "config.json").is_file():
            from .huggingface import open_huggingface

            return open_huggingface(text)
    bundle = Bundle(folder)
    model = load_model(bundle)
    return Source(bundle, model.text_tower, model.image_tower)


def repository_for(name: str | Path) -> Path:
    """Return the default folder of a source's model repository.

    It is `model_repository` beside a bundle, and `NAME_repository` in the current folder for other
    sources.
    """
    folder = Path(name)
    if (folder / BUNDLE_FILE).is_file():
        return folder.resolve().parent / "model_repository"
    last = re.split(r"[/:]", str(name).rstrip("/"))[-1]
    return Path(f"{re.sub(r'[^A-Za-z0-9._-]+', '-', last)}_repository")
