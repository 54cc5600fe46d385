"""The towers as plain PyTorch modules: the reference that every engine is held to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from vireo_client.bundle import Bundle

from .bundle_writer import load_model


class TorchTowers:
    """Runs a bundle's towers in PyTorch on the CPU.

    Raises:
        BundleError: the bundle has no weights, or they do not fit.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, *, max_batch_size: int = 64) -> None:
        model = load_model(bundle)
        self._hold(model.text_tower, model.image_tower, max_batch_size)

    @classmethod
    def of(
        cls, text_tower: nn.Module, image_tower: nn.Module, *, max_batch_size: int = 64
    ) -> TorchTowers:
        """Runs two modules in evaluation mode that need not come from a bundle."""
        towers = cls.__new__(cls)
        towers._hold(text_tower, image_tower, max_batch_size)
        return towers

    def _hold(self, text_tower: nn.Module, image_tower: nn.Module, max_batch_size: int) -> None:
        self.max_batch_size = max_batch_size
        self._text_tower, self._image_tower = text_tower, image_tower

    @torch.inference_mode()
    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        return np.asarray(self._text_tower(torch.from_numpy(input_ids)).numpy())

    @torch.inference_mode()
    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return np.asarray(self._image_tower(torch.from_numpy(pixels)).numpy())

    def close(self) -> None:
        """Nothing to free beyond the module itself."""
