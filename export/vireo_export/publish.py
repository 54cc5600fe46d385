"""How a model repository lies on disk."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE, Bundle

from .precision import move_engine
from .triton_config import ServingOptions, tower_configs, write_config


def lay_out(
    repository: Path, bundle: Bundle, engines: dict[str, Path], options: ServingOptions
) -> None:
    """Fills a folder as a model repository for target `cpu`.

    It holds what Triton loads (a folder a model) and, as plain files that Triton passes over,
    `bundle.json` and the text files, so that a client needs this one folder.

    Args:
        repository: an empty folder, or one that holds `engines` alone.
        bundle: what the engines were made from.
        engines: ONNX files by model name, on the same file system; they are moved, and their data
            files with them.
        options: what the operator set.
    """
    for model, config in tower_configs(bundle.config, options).items():
        version = repository / model / "1"
        version.mkdir(parents=True)
        move_engine(engines[model], version)
        backend = resources.files("vireo_models") / "onnx_tower.py"
        (version / "model.py").write_text(backend.read_text("utf-8"), encoding="utf-8")
        write_config(config, repository / model)
    for file in (bundle.folder / BUNDLE_FILE, *bundle.text_files()):
        shutil.copyfile(file, repository / file.name)
