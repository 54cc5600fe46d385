"""Triton Python-backend model: encoded pictures to pixels, by the client's own image path.

Export copies this file as `model.py` into the model's version folder, beside `bundle.json`. It runs
inside Triton's Python stub and needs `vireo_client` there, and nothing else of ours.
"""

from __future__ import annotations

import json
from pathlib import Path

import triton_python_backend_utils as pb_utils
from vireo_client.cores import usable_cores
from vireo_client.errors import DataError

from vireo_serving.models.image_requests import ImageRequests


class TritonPythonModel:
    """BYTES `image` `[N, 1]`, whole files, to UINT8 `pixels` `[N, 3, H, W]`.

    A request with a broken picture fails and names it, unless its parameter `partial` is true: then
    the row's `error` says why, its `readable` is false and its pixels are black. Without broken
    pictures `error` is empty everywhere.
    """

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"]) or usable_cores()
        self.images = ImageRequests(folder, threads)

    def execute(self, requests: list) -> list:
        files = [pb_utils.get_input_tensor_by_name(r, "image").as_numpy() for r in requests]
        parameters = [request.parameters() for request in requests]
        return [_answer(found) for found in self.images.load(files, parameters)]

    def finalize(self) -> None:
        self.images.close()


def _answer(found) -> pb_utils.InferenceResponse:
    if isinstance(found, Exception):
        fault = isinstance(found, DataError)
        code = pb_utils.TritonError.INVALID_ARG if fault else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(found), code))
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("pixels", found.pixels),
            pb_utils.Tensor("readable", found.readable),
            pb_utils.Tensor("error", found.errors),
        ]
    )
