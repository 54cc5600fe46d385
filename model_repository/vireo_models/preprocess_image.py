"""Triton Python-backend model: encoded pictures to pixels, by the client's own image path.

Export copies this file as `model.py` into the model's version folder, beside `bundle.json`. It runs
inside Triton's Python stub and needs `vireo_client` there, and nothing else of ours.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from vireo_client.bundle import read_bundle_config
from vireo_client.cores import usable_cores
from vireo_client.errors import ImageError
from vireo_client.images import load_pixels

PARTIAL = "partial"
"""Request parameter: answer the readable pictures of a request that has broken ones too."""


class TritonPythonModel:
    """BYTES `image` `[N, 1]`, whole files, to UINT8 `pixels` `[N, 3, H, W]`.

    A request with a broken picture fails and names it, unless its parameter `partial` is true: then
    the row's `error` says why, its `readable` is false and its pixels are black. Without broken
    pictures `error` is empty everywhere.
    """

    def initialize(self, args: dict[str, str]) -> None:
        folder = Path(args["model_repository"]) / args["model_version"]
        self.spec = read_bundle_config(folder).image
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"]) or usable_cores()
        # Pillow releases the interpreter lock while it decodes and resizes.
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def execute(self, requests: list) -> list:
        """Decodes the pictures of all requests side by side; a broken one fails its request."""
        pictures = [
            pb_utils.get_input_tensor_by_name(request, "image").as_numpy().ravel()
            for request in requests
        ]
        if sum(map(len, pictures)) == 1:
            return [self._answer(requests[0], [self._load(0, pictures[0][0])], 1)]
        # All are under way before the first is waited for.
        decoding = [self.pool.map(self._load, range(len(rows)), rows) for rows in pictures]
        return [
            self._answer(request, loaded, len(rows))
            for request, loaded, rows in zip(requests, decoding, pictures)  # noqa: B905
        ]

    def finalize(self) -> None:
        self.pool.shutdown(cancel_futures=True)

    def _load(self, row: int, value: bytes) -> np.ndarray | Exception:
        try:
            return load_pixels(value, self.spec, name=f"image {row}")
        except Exception as error:
            return error

    def _answer(self, request, loaded, count: int) -> pb_utils.InferenceResponse:
        pixels = np.zeros((count, 3, self.spec.size, self.spec.size), dtype=np.uint8)
        errors = np.full((count, 1), b"", dtype=object)
        readable = np.ones((count, 1), dtype=bool)
        code = pb_utils.TritonError.INVALID_ARG
        for row, result in enumerate(loaded):
            if isinstance(result, np.ndarray):
                pixels[row] = result
                continue
            readable[row] = False
            errors[row] = str(result).encode()
            if not isinstance(result, ImageError):  # not the picture's fault: out of memory, say
                code = pb_utils.TritonError.INTERNAL
        if not readable.all() and not _is_partial(request):
            error = pb_utils.TritonError(b"; ".join(errors[~readable]).decode(), code)
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("pixels", pixels),
                pb_utils.Tensor("readable", readable),
                pb_utils.Tensor("error", errors),
            ]
        )


def _is_partial(request) -> bool:
    return json.loads(request.parameters() or "{}").get(PARTIAL) in (True, "true")
