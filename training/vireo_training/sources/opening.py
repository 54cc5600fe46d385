"""Open sources: bundles, models of transformers, models of open_clip."""

from __future__ import annotations

from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE, Bundle
from vireo_client.errors import ExportError

from ..models.bundle_writer import load_model
from .source import Source


def is_foreign(name: str) -> bool:
    """Return whether `name` is a model of transformers or open_clip rather than a bundle's folder.

    A repository made from a bundle holds a `bundle.json` as well.
    """
    if name.startswith(("hf:", "open_clip:", "hf-hub:")):
        return True
    folder = Path(name)
    files = ("config.json", "open_clip_config.json")
    return not (folder / BUNDLE_FILE).is_file() and any((folder / f).is_file() for f in files)


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
