"""Small random towers of each preset, exported once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support.torch_settings  # noqa: F401
import torch
from support.presets import shrink
from torch import nn
from vireo_export.onnx.export import export_towers
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.models.resolve import image_spec, resolve_image
from vireo_training.presets import load_config


@dataclass(frozen=True)
class Exported:
    """A tower, its FP32 engine as PyTorch's exporter writes it, and inputs."""

    tower: nn.Module
    path: Path
    inputs: dict[str, Any]

    def expected(self) -> Any:
        with torch.no_grad():
            return self.tower(torch.from_numpy(*self.inputs.values())).numpy()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Exported]:
    """Export the towers of a shrunk preset, once for each preset."""
    exports: dict[str, dict[str, Exported]] = {}

    def get(preset: str, tower: str) -> Exported:
        if preset not in exports:
            torch.manual_seed(0)
            config = load_config(preset, shrink(preset))
            pad = 1 if config.text.kind == "huggingface" else 0
            model = DualEncoder(config, config.text.vocab_size, pad, load=False).eval()
            size = image_spec(resolve_image(config.image)).size
            paths = export_towers(
                model.text_tower, model.image_tower, tmp_path_factory.mktemp(preset),
                size=size, buckets=config.text.buckets, pad_id=pad,
            )  # fmt: skip
            rng = np.random.default_rng(0)
            ids = rng.integers(4, 400, (6, 16), dtype=np.int32)
            for row, length in enumerate((16, 12, 7, 3, 2, 1)):
                ids[row, length:] = pad
            pixels = rng.integers(0, 256, (4, 3, size, size), dtype=np.uint8)
            exports[preset] = {
                "text": Exported(model.text_tower, paths["text_encoder"], {"input_ids": ids}),
                "image": Exported(model.image_tower, paths["image_encoder"], {"pixels": pixels}),
            }
        return exports[preset][tower]

    return get
