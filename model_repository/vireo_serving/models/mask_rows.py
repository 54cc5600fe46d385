"""Triton Python-backend model: no vector for a picture that could not be read.

Export copies this file as `model.py` into the model's version folder. It runs inside Triton's
Python stub and imports nothing of the project.
"""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """FP32 `vectors` `[N, D]` and BOOL `readable` `[N, 1]` to FP32 `embedding` `[N, D]`.

    The tower gives a vector for the black pixels of a broken picture too; it becomes zero, which
    has no direction and resembles nothing. (NaN could not be written as JSON over HTTP.)
    """

    def execute(self, requests: list) -> list:
        answers = []
        for request in requests:
            vectors = pb_utils.get_input_tensor_by_name(request, "vectors").as_numpy()
            readable = pb_utils.get_input_tensor_by_name(request, "readable").as_numpy()
            if not readable.all():
                vectors = np.where(readable, vectors, np.float32(0))
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("embedding", vectors)]))
        return answers
