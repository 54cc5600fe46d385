"""A source: a model that can be exported, whoever trained it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn
from vireo_client.bundle import Bundle
from vireo_training.bundle_writer import load_model


@dataclass(frozen=True)
class Source:
    """Two towers in evaluation mode and the folder that says how to feed them."""

    bundle: Bundle
    """`bundle.json` and the text files; weights need not be there."""
    text_tower: nn.Module
    """INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
    image_tower: nn.Module
    """UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""


def open_source(name: str | Path) -> Source:
    """Loads what `name` says.

    Args:
        name: the folder of a bundle that training wrote.

    Raises:
        BundleError: it is no such folder, or holds no weights.
    """
    bundle = Bundle(name)
    model = load_model(bundle)
    return Source(bundle, model.text_tower, model.image_tower)
