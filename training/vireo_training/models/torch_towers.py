"""The towers as plain PyTorch modules: the reference that every engine is held to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from vireo_client.bundle import Bundle

from .bundle_writer import load_model


class TorchTowers:
    """Two PyTorch modules as the towers of an embedder.

    Args:
        text_tower: INT32 `[N, L]` to unit vectors FP32 `[N, D]`, in evaluation mode, on the CPU.
        image_tower: UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`, likewise.
        max_batch_size: the largest N that a caller should send.
    """

    name = "torch"

    def __init__(
        self, text_tower: nn.Module, image_tower: nn.Module, *, max_batch_size: int = 64
    ) -> None:
        self.max_batch_size = max_batch_size
        self._text_tower, self._image_tower = text_tower, image_tower

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, max_batch_size: int = 64) -> TorchTowers:
        """Load the towers of a bundle.

        Raises:
            BundleError: the bundle has no weights, or they do not fit.
        """
        model = load_model(bundle)
        return cls(model.text_tower, model.image_tower, max_batch_size=max_batch_size)

    @torch.inference_mode()
    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Run the text tower: INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        return np.asarray(self._text_tower(torch.from_numpy(input_ids)).numpy())

    @torch.inference_mode()
    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run the image tower: UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return np.asarray(self._image_tower(torch.from_numpy(pixels)).numpy())

    def close(self) -> None:
        """Do nothing: the modules go when nobody holds them."""
