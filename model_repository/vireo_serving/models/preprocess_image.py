"""Triton Python-backend model: encoded images to pixels, by the client's own image path.

Export copies this file as `model.py` into the model's version folder, beside `bundle.json`. It runs
inside Triton's Python stub, where vireo's client and `vireo_serving` must be installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils
from vireo_client.cores import usable_cores

from vireo_serving.models.image_requests import ImageRequests, LoadedImages
from vireo_serving.models.triton_model import check_version, error_response, read_parameters


class TritonPythonModel:
    """BYTES `image` `[N, 1]`, whole files, to UINT8 `pixels` `[N, 3, H, W]`.

    A request with a broken image fails and names it, unless its parameter `partial` is true: then
    the row's `error` says why, its `readable` is false and its pixels are black. Without broken
    images `error` is empty everywhere.
    """

    def initialize(self, args: dict[str, str]) -> None:
        check_version(args)
        folder = Path(args["model_repository"]) / args["model_version"]
        parameters = read_parameters(json.loads(args["model_config"]))
        self.images = ImageRequests(folder, int(parameters["threads"]) or usable_cores())

    def execute(self, requests: list[Any]) -> list[Any]:
        files = [pb_utils.get_input_tensor_by_name(r, "image").as_numpy() for r in requests]
        parameters = [request.parameters() for request in requests]
        return [_response(images) for images in self.images.load(files, parameters)]

    def finalize(self) -> None:
        self.images.close()


def _response(images: LoadedImages | Exception) -> pb_utils.InferenceResponse:
    if isinstance(images, Exception):
        return error_response(images)
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("pixels", images.pixels),
            pb_utils.Tensor("readable", images.readable),
            pb_utils.Tensor("error", images.errors),
        ]
    )
