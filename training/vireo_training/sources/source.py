"""A source: a model that can be exported, trained here or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from vireo_client.bundle import Bundle


@dataclass(frozen=True)
class Source:
    """Two towers in evaluation mode, and the bundle that describes their preprocessing."""

    bundle: Bundle
    """The bundle: `bundle.json` and the files of the text path; it may lack weights."""
    text_tower: nn.Module
    """Maps ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
    image_tower: nn.Module
    """Maps pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
