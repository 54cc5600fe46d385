"""Model repositories around engines that no test runs: quick to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.repository import MODELS
from vireo_serving.configs.triton_config import ServingOptions, Target
from vireo_serving.repository.publish import lay_out, publishing


def laid_out(
    bundle: Bundle,
    folder: Path,
    target: Target = "cpu",
    options: ServingOptions = ServingOptions(),
    *,
    records: Sequence[CaptionedImage] = (),
    keep: int = 2,
    mark: str = "",
) -> Path:
    """Publishes a version whose engines hold the model's name and `mark`."""
    with publishing(folder, keep=keep) as draft:
        (draft / "parity.json").write_text(f'{{"mark": "{mark}"}}')
        suffix = ".plan" if target == "tensorrt" else ".onnx"
        engines = {model: draft / f"{model}{suffix}" for model in MODELS}
        for model, engine in engines.items():
            engine.write_text(model + mark)
        (draft / f"text_encoder{suffix}.{'json' if suffix == '.plan' else 'data'}").touch()
        lay_out(draft, bundle, engines, options, target=target, records=records)
    return folder
