"""The towers in this process, by ONNX Runtime: no server needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..repository import IMAGE_MODEL, TEXT_MODEL, model_file
from .engine import OnnxEngine


class OnnxTowers:
    """Runs the ONNX towers of a model repository on the CPU.

    Args:
        bundle: a model repository that `vireo export` wrote.
        threads: threads a batch may use; 0 for as many as this process has cores.
        max_batch_size: the largest batch that is run at once.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        BundleError: the folder has no exported towers, or they do not load.
    """

    name = "onnx"

    def __init__(self, bundle: Bundle, *, threads: int = 0, max_batch_size: int = 64) -> None:
        text, image = (model_file(bundle.folder, model) for model in (TEXT_MODEL, IMAGE_MODEL))
        self._load(text, image, threads, max_batch_size)

    @classmethod
    def of(
        cls, text: Path, image: Path, *, threads: int = 0, max_batch_size: int = 64
    ) -> OnnxTowers:
        """Runs two ONNX files that need not lie in a model repository."""
        towers = cls.__new__(cls)
        towers._load(text, image, threads, max_batch_size)
        return towers

    def _load(self, text: Path, image: Path, threads: int, max_batch_size: int) -> None:
        self.max_batch_size = max_batch_size
        self._text, self._image = OnnxEngine(text, threads), OnnxEngine(image, threads)

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        return self._text.run(input_ids)

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return self._image.run(pixels)

    def close(self) -> None:
        """Ends the engines' threads."""
        self._text.close()
        self._image.close()
