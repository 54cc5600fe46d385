"""The towers in this process, by ONNX Runtime, without a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..repository import IMAGE_MODEL, TEXT_MODEL, model_file
from .engine import OnnxEngine


class OnnxTowers:
    """Runs two ONNX towers on the CPU.

    Args:
        text: the ONNX file of the text tower.
        image: the ONNX file of the image tower.
        threads: threads that a batch may use; 0 for as many as this process has cores.
        max_batch_size: the largest batch that is run at once.
        padding: as for `OnnxEngine`, of the text tower.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        EngineError: a file does not load or does not run.
    """

    name = "onnx"
    batches_in_flight = 2
    """The threads that end their parts of one batch first begin with the next."""

    def __init__(
        self,
        text: Path,
        image: Path,
        *,
        threads: int = 0,
        max_batch_size: int = 64,
        padding: int | None = None,
    ) -> None:
        self.max_batch_size = max_batch_size
        self._text = OnnxEngine(text, threads, padding=padding)
        self._image = OnnxEngine(image, threads)

    @classmethod
    def from_repository(
        cls, bundle: Bundle, *, threads: int = 0, max_batch_size: int = 64
    ) -> OnnxTowers:
        """Open the towers of a model repository, in the version in use.

        Args:
            bundle: a model repository that `vireo export` wrote.
            threads: as for the class.
            max_batch_size: as for the class.

        Raises:
            MissingExtraError: onnxruntime is not installed.
            BundleError: the folder has no ONNX towers.
            EngineError: a file does not load or does not run.
        """
        text, image = (model_file(bundle.folder, model) for model in (TEXT_MODEL, IMAGE_MODEL))
        padding = bundle.config.text.free_padding
        return cls(text, image, threads=threads, max_batch_size=max_batch_size, padding=padding)

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Embed ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        return self._text.run(input_ids)

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return self._image.run(pixels)

    def close(self) -> None:
        """End the engines' threads."""
        self._text.close()
        self._image.close()
