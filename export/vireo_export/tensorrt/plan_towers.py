"""Run plans in this process, to measure their parity with PyTorch.

This is not for serving: it runs one batch at a time on CUDA's default stream, without CUDA graphs.
It imports TensorRT. Like `network`, it was tested without a GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorrt as trt
import torch
from vireo_client.errors import EngineError
from vireo_serving.plans.manifest import check_manifest
from vireo_serving.plans.profiles import dims

from .network import Logger, version

OUTPUT = "embedding"
_DEFAULT_STREAM = 0
"""PyTorch copies on this stream too, so a copy from the GPU waits for the run before it."""


class PlanTowers:
    """Run the plans of both towers on a GPU.

    Args:
        text: the text tower's plan, with its manifest beside it.
        image: the image tower's plan, with its manifest beside it.
        device: PyTorch's device for inputs and outputs; TensorRT runs on the current GPU.

    Raises:
        EngineError: a plan was built for another GPU or TensorRT, or does not load.
    """

    name = "tensorrt"

    def __init__(self, text: Path, image: Path, *, device: str = "cuda") -> None:
        self._text = PlanRunner(text, device)
        self._image = PlanRunner(image, device)
        self.max_batch_size = min(self._text.max_batch_size, self._image.max_batch_size)

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Map ids INT32 `[N, L]`, L one of the plan's buckets, to unit vectors FP32 `[N, D]`."""
        return self._text.run(input_ids)

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Map pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return self._image.run(pixels)

    def close(self) -> None:
        """Do nothing: TensorRT frees an engine with its Python object."""


class PlanRunner:
    """Run one plan with one input and the output `embedding`.

    Raises:
        EngineError: this machine must not load the plan, or TensorRT cannot load it.
    """

    def __init__(self, plan: Path, device: str = "cuda") -> None:
        manifest = check_manifest(plan, tensorrt=version())
        self._plan, self._device, self._profiles = plan, device, manifest.profiles
        self.max_batch_size = min(profile.max[0] for profile in manifest.profiles)
        self._logger = Logger()
        try:
            self._runtime = trt.Runtime(self._logger)
        except TypeError as error:  # the bindings raise it when the library returns none
            raise self._failed("cannot start TensorRT") from error
        # Such a plan carries code. check_manifest has checked that it is the file that was built.
        if manifest.options.version_compatible:
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise self._failed("does not load")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failed("does not fit in the GPU's memory")

    def run(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Run a batch; return unit vectors FP32 `[N, D]`.

        Raises:
            EngineError: no profile has the batch's shape, or the run fails.
        """
        fitting = (n for n, profile in enumerate(self._profiles) if profile.holds(batch.shape))
        number = next(fitting, None)
        if number is None:
            raise EngineError(f"{self._plan}: no profile of it has the shape {dims(batch.shape)}")
        context, name = self._context, self._profiles[number].input
        inputs = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        ready = context.set_optimization_profile_async(number, _DEFAULT_STREAM)
        if not (ready and context.set_input_shape(name, list(batch.shape))):
            raise self._failed(f"refuses the shape {dims(batch.shape)}")
        sizes = context.get_tensor_shape(OUTPUT)
        shape = [sizes[axis] for axis in range(len(sizes))]
        result = torch.empty(shape, dtype=torch.float32, device=self._device)
        placed = context.set_tensor_address(name, inputs.data_ptr())
        placed = placed and context.set_tensor_address(OUTPUT, result.data_ptr())
        if not (placed and context.execute_async_v3(_DEFAULT_STREAM)):
            raise self._failed("does not run")
        return np.asarray(result.cpu().numpy())

    def _failed(self, failure: str) -> EngineError:
        reason = "; ".join(self._logger.errors) or "TensorRT gave no reason"
        return EngineError(f"{self._plan}: {failure} ({reason})")
