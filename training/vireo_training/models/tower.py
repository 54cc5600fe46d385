"""The common part of both towers: a backbone that may be frozen, and a projection head.

A tower takes inputs that are cheap to send and returns embeddings that are ready to search:
everything between (mask, positions, normalisation of pixels, projection, L2 norm) is in the graph.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tower(nn.Module, ABC):
    """A backbone and its head.

    Args:
        backbone: computes the features; it may be pretrained.
        head: projects features `[N, width]` to `[N, D]`.
        frozen: leave the backbone as it is, its batch statistics included, until `unfreeze`.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        # Some models hold parameters that never train, such as fixed position tables.
        self._trainable = [p for p in backbone.parameters() if p.requires_grad]
        self.frozen = frozen
        self._require_gradients(not frozen)

    @abstractmethod
    def _encode(self, inputs: Tensor) -> Tensor:
        """Return the backbone's features `[N, width]` of inputs."""

    @abstractmethod
    def _backbone_layers(self) -> Iterable[Iterable[nn.Parameter]]:
        """Return all of the backbone's parameters, from the bottom to the top."""

    def features(self, inputs: Tensor) -> Tensor:
        """Return the backbone's features `[N, width]` of the inputs of `forward`."""
        if not self.frozen:
            return self._encode(inputs)
        with torch.no_grad():
            return self._encode(inputs)

    def project(self, features: Tensor) -> Tensor:
        """Project the backbone's features `[N, width]` to unit vectors FP32 `[N, D]`."""
        return F.normalize(self.head(features).float(), dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed inputs as unit vectors FP32 `[N, D]`."""
        return self.project(self.features(inputs))

    def unfreeze(self) -> None:
        """Train the backbone from now on."""
        self.frozen = False
        self._require_gradients(True)
        self.backbone.train(self.training)

    def freeze(self) -> None:
        """Leave the backbone as it is from now on, its batch statistics included."""
        self.frozen = True
        self._require_gradients(False)
        self.backbone.eval()

    def layers(self) -> list[list[nn.Parameter]]:
        """Return the backbone's trainable parameters by layer, from bottom to top, each once."""
        trainable = {id(p) for p in self._trainable}
        layers = ([p for p in layer if id(p) in trainable] for layer in self._backbone_layers())
        return [layer for layer in layers if layer]

    def train(self, mode: bool = True) -> Tower:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()  # batch statistics stay as they were loaded
        return self

    def _require_gradients(self, required: bool) -> None:
        for parameter in self._trainable:
            parameter.requires_grad_(required)
