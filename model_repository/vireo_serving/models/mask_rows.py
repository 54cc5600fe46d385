"""Triton Python-backend model: no embedding for an image that could not be read.

Export copies this file as `model.py` into the model's version folder. It runs inside Triton's
Python stub, where vireo's client and `vireo_serving` must be installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from vireo_serving.models.triton_model import check_version


class TritonPythonModel:
    """FP32 `vectors` `[N, D]` and BOOL `readable` `[N, 1]` to FP32 `embedding` `[N, D]`.

    The tower embeds the black pixels of a broken image too. That row becomes zero, which has no
    direction and resembles nothing. (NaN could not be written as JSON over HTTP.)
    """

    def initialize(self, args: dict[str, str]) -> None:
        check_version(args)

    def execute(self, requests: list[Any]) -> list[Any]:
        responses = []
        for request in requests:
            vectors = pb_utils.get_input_tensor_by_name(request, "vectors").as_numpy()
            readable = pb_utils.get_input_tensor_by_name(request, "readable").as_numpy()
            if not readable.all():
                vectors = np.where(readable, vectors, np.float32(0))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("embedding", vectors)]))
        return responses
