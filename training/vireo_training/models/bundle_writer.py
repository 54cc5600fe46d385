"""Writes a trained model as a bundle, and builds the module from one again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from vireo_client.bundle import (
    SCHEMA_VERSION,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Bundle,
    BundleConfig,
    ImageSpec,
    make_bundle_id,
    write_config,
)
from vireo_client.errors import BundleError, TrainingError, first_line
from vireo_client.files import replacing
from vireo_client.text.pipeline import TextPath

from ..config import TrainConfig
from .dual_encoder import DualEncoder, model_settings


def write_bundle(
    folder: Path,
    model: DualEncoder,
    config: TrainConfig,
    text_path: TextPath,
    image_spec: ImageSpec,
    *,
    metrics: dict[str, Any],
    provenance: dict[str, Any],
) -> Path:
    """Write the bundle to `folder`; an earlier one stays until the new one is complete.

    Returns:
        `folder`.
    """
    settings, text_spec = model_settings(config), text_path.spec()
    with replacing(folder, marker=WEIGHTS_FILE) as draft:
        save_weights(model.state_dict(), draft / WEIGHTS_FILE)
        text_path.tokenizer.save(draft)
        carried = text_path.segmenter.files()
        for name, file in carried.items():
            shutil.copyfile(file, draft / name)
        described = [settings, image_spec.model_dump(), text_spec.model_dump()]
        bundle_id = make_bundle_id(
            draft / WEIGHTS_FILE,
            draft / TOKENIZER_FILE,
            *(draft / name for name in carried),
            json.dumps(described).encode(),
        )
        write_config(
            draft,
            BundleConfig(
                schema_version=SCHEMA_VERSION,
                bundle_id=bundle_id,
                embedding_dim=config.embedding_dim,
                image=image_spec,
                text=text_spec,
                model=settings,
                metrics=metrics,
                provenance=provenance,
            ),
        )
    return folder


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, readable for whom the umask says: that library writes 0600."""
    path.touch()
    mode = path.stat().st_mode
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    path.chmod(mode)


def load_model(bundle: Bundle) -> DualEncoder:
    """Build the module of `bundle` in evaluation mode, on the CPU.

    Raises:
        BundleError: there are no weights in the bundle, or they do not fit its settings.
    """
    spec = bundle.config.text
    weights = bundle.weights_file
    try:
        config = TrainConfig.model_validate(bundle.config.model)
        state = load_file(weights)
        model = DualEncoder(config, spec.vocab_size, spec.pad_id, load=False)
        model.load_state_dict(state)
    except (RuntimeError, OSError, ValueError, SafetensorError, TrainingError) as error:
        reason = first_line(error)
        raise BundleError(f"{bundle.folder}: the weights do not load ({reason})") from error
    # Convolutions on CPUs run best on this layout.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval()
