"""Publishes a repository again and again, without an export: what a reload takes over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import onnx
from vireo_client.bundle import BUNDLE_FILE, Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.repository import MODELS, PARITY_FILE, current_version, model_file
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.repository.publish import publishing, write_repository


class Publisher:
    """Publishes the engines of an exported repository for target `cpu`, as they are or negated.

    Negated towers answer the opposite vector, so that an answer shows which publication it is of.

    Args:
        exported: the repository that the engines come from.
        repository: the model repository to publish.
        scratch: a folder on the same file system.
        records: captioned images for the warm-up.
    """

    def __init__(
        self,
        exported: Bundle,
        repository: Path,
        scratch: Path,
        records: Sequence[CaptionedImage],
    ) -> None:
        self._exported = exported
        self._repository = repository
        self._scratch = scratch
        self._records = records
        self._negated = {
            model: negate(model_file(exported.folder, model), scratch / "negated" / model)
            for model in MODELS
        }

    def publish(self, *, negated: bool) -> int:
        """Publish one version alone, as a bundle of its own.

        Returns:
            Its number.
        """
        engines = {
            model: self._negated[model] if negated else model_file(self._exported.folder, model)
            for model in MODELS
        }
        with publishing(self._repository, keep=1) as draft:
            version = current_version(draft)
            bundle = self._bundle_named(f"bundle-{version:04}")
            moved = {}
            for model, engine in engines.items():
                moved[model] = draft / f"{model}.onnx"
                shutil.copyfile(engine, moved[model])
            write_repository(draft, bundle, moved, ServingOptions(), records=self._records)
            (draft / PARITY_FILE).write_text("{}\n", encoding="utf-8")
        return version

    def _bundle_named(self, bundle_id: str) -> Bundle:
        folder = self._scratch / "bundle"
        folder.mkdir(exist_ok=True)
        for file in self._exported.text_files():
            shutil.copyfile(file, folder / file.name)
        described = json.loads((self._exported.folder / BUNDLE_FILE).read_text(encoding="utf-8"))
        text = json.dumps(described | {"bundle_id": bundle_id})
        (folder / BUNDLE_FILE).write_text(text, encoding="utf-8")
        return Bundle(folder)


def negate(engine: Path, folder: Path) -> Path:
    """Write an engine that gives the opposite embedding of `engine`.

    Returns:
        The path of the new ONNX file in `folder`.
    """
    model = onnx.load(engine)
    name = model.graph.output[0].name
    node = next(node for node in model.graph.node if name in node.output)
    positive = f"positive-{len(model.graph.node)}"
    node.output[list(node.output).index(name)] = positive
    model.graph.node.append(onnx.helper.make_node("Neg", [positive], [name]))
    folder.mkdir(parents=True)
    onnx.save(model, folder / engine.name)
    return folder / engine.name
