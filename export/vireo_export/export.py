"""Source to model repository, published only after the parity gate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.progress import console
from vireo_client.repository import PARITY_FILE
from vireo_client.towers.onnx import OnnxTowers
from vireo_training.evaluate import embed_corpus
from vireo_training.torch_towers import TorchTowers

from .onnx_export import export_towers
from .parity import Parity, check, compare
from .publish import lay_out, publishing
from .sources import Source
from .triton_config import ServingOptions, Target


def export(
    source: Source,
    repository: Path,
    records: Sequence[CaptionedImage],
    options: ServingOptions | None = None,
    *,
    target: Target = "cpu",
    keep: int = 2,
) -> Parity:
    """Exports both towers to ONNX and publishes a model repository.

    The repository replaces an older one in one step, and only if the engines pass the gate.

    Args:
        source: the model, see `open_source`.
        repository: the folder to publish to.
        records: captioned pictures on which engines and PyTorch are compared.
        options: what the operator set.
        target: what runs the towers inside Triton.
        keep: how many versions there are afterwards at most, the new one included.

    Returns:
        The figures of the gate, which also lie in `parity.json`.

    Raises:
        ExportError: a tower cannot be expressed in ONNX, or `repository` is something else.
        ParityError: an engine does not answer as PyTorch does.
    """
    config = source.bundle.config
    with publishing(repository, keep=keep) as draft:
        with console.status("exporting towers to ONNX"):
            engines = export_towers(
                source.text_tower,
                source.image_tower,
                draft,
                size=config.image.size,
                buckets=config.text.buckets,
                pad_id=config.text.pad_id,
            )
        lay_out(
            draft, source.bundle, engines, options or ServingOptions(),
            target=target, records=records,
        )  # fmt: skip
        with Embedder(
            source.bundle, TorchTowers.of(source.text_tower, source.image_tower)
        ) as reference:
            expected = embed_corpus(reference, records)
        exported = Bundle(draft)
        with Embedder(exported, OnnxTowers(exported)) as engine:
            parity = compare(expected, engine, expected.records)
        check(parity)
        (draft / PARITY_FILE).write_text(json.dumps(parity.as_dict(), indent=2) + "\n")
    return parity
