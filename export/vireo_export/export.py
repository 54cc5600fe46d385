"""Bundle to model repository, published only after the parity gate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vireo_client.bundle import BUNDLE_FILE, Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.files import replacing
from vireo_client.progress import console
from vireo_client.repository import ENGINE_FILE
from vireo_client.towers.onnx import OnnxTowers
from vireo_training.evaluate import embed_corpus
from vireo_training.torch_towers import TorchTowers

from .onnx_export import export_towers
from .parity import Parity, check, compare
from .triton_config import ServingOptions, tower_configs, write_config

PARITY_FILE = "parity.json"


def export(
    bundle: Bundle,
    repository: Path,
    records: Sequence[CaptionedImage],
    options: ServingOptions | None = None,
) -> Parity:
    """Exports both towers to ONNX and publishes a model repository for target `cpu`.

    The repository holds what Triton loads (a folder a tower) and, as plain files that Triton passes
    over, `bundle.json` and the text files, so that a client needs this one folder. It replaces an
    older one in one step, and only if the engines pass the gate.

    Args:
        bundle: what training wrote.
        repository: the folder to publish to.
        records: captioned pictures on which engines and PyTorch are compared.

    Returns:
        The figures of the gate, which also lie in `parity.json`.

    Raises:
        BundleError: the bundle holds no weights.
        ExportError: a tower cannot be expressed in ONNX, or `repository` is something else.
        ParityError: an engine does not answer as PyTorch does.
    """
    configs = tower_configs(bundle.config, options or ServingOptions())
    with replacing(repository, marker=PARITY_FILE) as draft:
        with console.status("exporting towers to ONNX"):
            files = export_towers(bundle, draft)
        for model, config in configs.items():
            version = draft / model / "1"
            version.mkdir(parents=True)
            files[model].rename(version / ENGINE_FILE)
            backend = resources.files("vireo_models") / "onnx_tower.py"
            (version / "model.py").write_text(backend.read_text("utf-8"), encoding="utf-8")
            write_config(config, draft / model)
        for file in (bundle.folder / BUNDLE_FILE, *bundle.text_files()):
            shutil.copyfile(file, draft / file.name)
        with Embedder(bundle, TorchTowers(bundle)) as reference:
            expected = embed_corpus(reference, records)
        exported = Bundle(draft)
        with Embedder(exported, OnnxTowers(exported)) as engine:
            parity = compare(expected, engine, expected.records)
        check(parity)
        (draft / PARITY_FILE).write_text(json.dumps(parity.as_dict(), indent=2) + "\n")
    return parity
