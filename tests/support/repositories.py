"""Model repositories around engines that no test runs: quick to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.repository import MODELS
from vireo_serving.configs.triton_config import ServingOptions
from vireo_serving.repository.publish import publishing, write_repository
from vireo_serving.targets import Cpu, Target


def publish_version(
    bundle: Bundle,
    folder: Path,
    target: Target = Cpu(),
    options: ServingOptions = ServingOptions(),
    *,
    records: Sequence[CaptionedImage] = (),
    keep: int = 2,
    mark: str = "",
) -> Path:
    """Publish a version whose engines hold the model's name and `mark`."""
    with publishing(folder, keep=keep) as draft:
        (draft / "parity.json").write_text(f'{{"mark": "{mark}"}}')
        suffix = target.engine_suffixes[0]
        engines = {model: draft / f"{model}{suffix}" for model in MODELS}
        for model, engine in engines.items():
            engine.write_text(model + mark)
        (draft / f"text_encoder{suffix}.{'json' if suffix == '.plan' else 'data'}").touch()
        write_repository(draft, bundle, engines, options, target=target, records=records)
    return folder
