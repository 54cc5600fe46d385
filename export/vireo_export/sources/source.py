"""A source: a model that can be exported, whoever trained it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from vireo_client.bundle import Bundle


@dataclass(frozen=True)
class Source:
    """Two towers in evaluation mode and the folder that says how to feed them."""

    bundle: Bundle
    """`bundle.json` and the text files; weights need not be there."""
    text_tower: nn.Module
    """INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
    image_tower: nn.Module
    """UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
