"""Triton Python-backend model: sentences to padded ids, by the client's own text path.

Export copies this file as `model.py` into the model's version folder, beside the bundle's text
files. It runs inside Triton's Python stub and needs `vireo_client` there, and nothing else of ours.
"""

from __future__ import annotations

from pathlib import Path

import triton_python_backend_utils as pb_utils
from vireo_client.errors import DataError

from vireo_serving.models.text_requests import TextRequests


class TritonPythonModel:
    """BYTES `text` `[N, 1]`, UTF-8, to INT32 `input_ids` `[N, L]`.

    All rows of a request are padded to the bucket of its longest; the tower masks padding.
    """

    def initialize(self, args: dict[str, str]) -> None:
        self.texts = TextRequests(Path(args["model_repository"]) / args["model_version"])

    def execute(self, requests: list) -> list:
        values = [pb_utils.get_input_tensor_by_name(r, "text").as_numpy() for r in requests]
        return [self._answer(rows) for rows in self.texts.encode(values)]

    def _answer(self, rows) -> pb_utils.InferenceResponse:
        if not isinstance(rows, Exception):
            ids = pb_utils.Tensor("input_ids", self.texts.pad(rows))
            return pb_utils.InferenceResponse([ids])
        fault = isinstance(rows, DataError)
        code = pb_utils.TritonError.INVALID_ARG if fault else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(rows), code))
