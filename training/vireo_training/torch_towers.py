"""The towers as plain PyTorch modules: the reference that every engine is held to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from vireo_client.bundle import Bundle

from .bundle_writer import load_model


class TorchTowers:
    """Runs a bundle's towers in PyTorch on the CPU.

    Raises:
        BundleError: the bundle has no weights, or they do not fit.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, *, max_batch_size: int = 64) -> None:
        self.max_batch_size = max_batch_size
        self._model = load_model(bundle)

    @torch.inference_mode()
    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        return np.asarray(self._model.text_tower(torch.from_numpy(input_ids)).numpy())

    @torch.inference_mode()
    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return np.asarray(self._model.image_tower(torch.from_numpy(pixels)).numpy())

    def close(self) -> None:
        """Nothing to free beyond the module itself."""
