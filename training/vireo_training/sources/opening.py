"""Open sources: bundles, models of transformers, models of open_clip."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from vireo_client.bundle import BUNDLE_FILE, Bundle
from vireo_client.errors import ExportError

from ..models.bundle_writer import load_model
from .source import Source


def is_foreign(name: str) -> bool:
    """Return whether `name` is a model of transformers or open_clip rather than a bundle's folder.

    A repository made from a bundle holds a `bundle.json` as well.
    """
    return _foreign(name) is not None


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
    foreign = _foreign(str(name))
    # Imported here because a bundle needs neither library.
    if foreign is not None and foreign.library == "transformers":
        from .huggingface import open_huggingface

        return open_huggingface(foreign.name)
    if foreign is not None:
        from .open_clip import open_open_clip

        return open_open_clip(foreign.name)
    folder = Path(name)
    if not folder.is_dir():
        raise ExportError(
            f"{name}: no such folder; a model of the Hugging Face hub is named hf:OWNER/NAME, "
            "one of open_clip open_clip:MODEL@WEIGHTS"
        )
    bundle = Bundle(folder)
    model = load_model(bundle)
    return Source(bundle, model.text_tower, model.image_tower)


class _Foreign(NamedTuple):
    library: Literal["transformers", "open_clip"]
    name: str
    """As the library takes it."""


def _foreign(name: str) -> _Foreign | None:
    """Return which library's model `name` is; None for all else."""
    if name.startswith("hf:"):
        return _Foreign("transformers", name.removeprefix("hf:"))
    if name.startswith(("open_clip:", "hf-hub:")):
        return _Foreign("open_clip", name.removeprefix("open_clip:"))
    folder = Path(name)
    if (folder / BUNDLE_FILE).is_file():
        return None
    # Some folders suit both libraries; open_clip's file is the more specific one.
    if (folder / "open_clip_config.json").is_file():
        return _Foreign("open_clip", f"local-dir:{folder}")
    if (folder / "config.json").is_file():
        return _Foreign("transformers", name)
    return None
