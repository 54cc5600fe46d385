"""Triton Python-backend model: texts to padded ids, by the client's own text path.

Export copies this file as `model.py` into the model's version folder, beside the bundle's text
files. It runs inside Triton's Python stub, where vireo's client and `vireo_serving` must be
installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from vireo_serving.models.restart_metrics import RestartMetrics
from vireo_serving.models.text_requests import TextRequests
from vireo_serving.models.triton_model import (
    check_version,
    error_response,
    keep_tokenizer_on_one_thread,
)


class TritonPythonModel:
    """BYTES `text` `[N, 1]`, UTF-8, to INT32 `input_ids` `[N, L]`.

    All rows of a request are padded to the bucket of its longest; the tower masks padding.
    """

    def initialize(self, args: dict[str, str]) -> None:
        check_version(args)
        keep_tokenizer_on_one_thread()
        self.restarts = RestartMetrics(args["model_name"], args["model_version"])
        self.texts = TextRequests(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list[Any]) -> list[Any]:
        values = [pb_utils.get_input_tensor_by_name(r, "text").as_numpy() for r in requests]
        responses = []
        for rows in self.texts.encode(values):
            if isinstance(rows, Exception):
                responses.append(error_response(rows))
                continue
            ids = pb_utils.Tensor("input_ids", self.texts.pad(rows))
            responses.append(pb_utils.InferenceResponse([ids]))
        return responses
