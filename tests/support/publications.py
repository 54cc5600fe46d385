"""New versions of an exported repository, without an export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as grpc
from vireo_client.bundle import BUNDLE_FILE
from vireo_client.files import replacing
from vireo_client.repository import (
    MODELS,
    PARITY_FILE,
    VERSIONS_FILE,
    Versions,
    current_version,
    write_versions,
)
from vireo_serving.configs.triton_config import CONFIG_FILE, read_config, write_config
from vireo_serving.repository.link import link


def republish(
    source: Path, repository: Path, version: int, bundle_id: str, *, negated: bool
) -> None:
    """Publish the version that `source` uses as another one, alone.

    Args:
        source: an exported repository.
        repository: where to publish; may be `source`.
        version: the new number of every model.
        bundle_id: the new version's bundle.
        negated: whether its towers answer the negative of what those of `source` answer.
    """
    old = str(current_version(source))
    with replacing(repository, marker=PARITY_FILE) as draft:
        shutil.copytree(source, draft, dirs_exist_ok=True, copy_function=link)
        for path in [draft / BUNDLE_FILE, draft / VERSIONS_FILE, *draft.glob(f"*/{CONFIG_FILE}")]:
            path.unlink()  # a link: `source` stays as it is
        described = json.loads((source / BUNDLE_FILE).read_text(encoding="utf-8"))
        (draft / BUNDLE_FILE).write_text(json.dumps(described | {"bundle_id": bundle_id}))
        write_versions(draft, Versions(version, (version,)))
        for path in source.glob(f"*/{CONFIG_FILE}"):
            folder = draft / path.parent.name
            if old != str(version):
                (folder / old).rename(folder / str(version))
            config = read_config(path)
            config.version_policy.specific.versions[:] = [version]
            config.parameters["bundle_id"].string_value = bundle_id
            for step in config.ensemble_scheduling.step:
                step.model_version = version
            write_config(config, folder)
        for model in MODELS if negated else ():
            _negate(draft / model / str(version) / "model.onnx")


def _negate(path: Path) -> None:
    model = onnx.load(path)
    name = model.graph.output[0].name
    node = next(node for node in model.graph.node if name in node.output)
    positive = f"positive-{len(model.graph.node)}"
    node.output[list(node.output).index(name)] = positive
    model.graph.node.append(onnx.helper.make_node("Neg", [positive], [name]))
    path.unlink()
    onnx.save(model, path)


class Requests:
    """One request for every model that a service may call."""

    def __init__(self, text: str, image: bytes, ids: np.ndarray, pixels: np.ndarray) -> None:
        def strings(value: bytes) -> np.ndarray:
            return np.array([[value]], dtype=object)

        self._tensors = {
            "embed_text": ("text", strings(text.encode()), "BYTES"),
            "embed_image": ("image", strings(image), "BYTES"),
            "text_encoder": ("input_ids", ids, "INT32"),
            "image_encoder": ("pixels", pixels, "UINT8"),
        }
        self.names = tuple(self._tensors)

    def send(self, client: grpc.InferenceServerClient, model: str) -> np.ndarray:
        """Send the request of `model`; return the embedding."""
        name, values, kind = self._tensors[model]
        tensor = grpc.InferInput(name, list(values.shape), kind)
        tensor.set_data_from_numpy(values)
        output = grpc.InferRequestedOutput("embedding")
        answer = client.infer(model, [tensor], outputs=[output], client_timeout=120)
        return np.asarray(answer.as_numpy("embedding")[0])
