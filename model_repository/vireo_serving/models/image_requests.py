"""Images as a server gets them: whole files of any content, many requests at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import read_bundle_config
from vireo_client.errors import DataError, ImageError, VireoError
from vireo_client.images import load_pixels

PARTIAL = "partial"
"""Request parameter: answer the readable images of a request although others are broken."""


class LoadedImages(NamedTuple):
    """The images of one request, N rows."""

    pixels: npt.NDArray[np.uint8]
    """`[N, 3, H, W]`; black where an image could not be read."""
    readable: npt.NDArray[np.bool_]
    """`[N, 1]`."""
    errors: npt.NDArray[np.object_]
    """`[N, 1]`, UTF-8: why an image could not be read; else empty."""


class ImageRequests:
    """The image path of a bundle, for a server's requests.

    Args:
        folder: holds `bundle.json`.
        threads: images that are decoded side by side; Pillow releases the interpreter lock.

    Raises:
        VireoError: the bundle is missing or damaged.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self._spec = read_bundle_config(folder).image
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def load(
        self, requests: Sequence[npt.NDArray[np.object_]], parameters: Sequence[str]
    ) -> list[LoadedImages | VireoError]:
        """Decode the images of all requests side by side; a broken one fails its own request.

        Args:
            requests: for each request its images, whole files as bytes, of any shape.
            parameters: for each request its own, as JSON or nothing; see `PARTIAL`.

        Returns:
            For each request its images or its error: a `DataError`, which names every broken image,
            if that is the request's fault.
        """
        rows = [values.ravel() for values in requests]
        if sum(map(len, rows)) == 1:  # not worth another thread
            loaded: list[Iterable[npt.NDArray[np.uint8] | Exception]] = [
                [self._load(number, value) for number, value in enumerate(files)] for files in rows
            ]
        else:
            # All are under way before the first is waited for.
            loaded = [self._pool.map(self._load, range(len(files)), files) for files in rows]
        return [
            self._images(results, len(files), _is_partial(text))
            for results, files, text in zip(loaded, rows, parameters, strict=True)
        ]

    def close(self) -> None:
        """End the threads; images that wait are not decoded any more."""
        self._pool.shutdown(cancel_futures=True)

    def _load(self, row: int, value: bytes) -> npt.NDArray[np.uint8] | Exception:
        try:
            return load_pixels(value, self._spec, name=f"image {row}")
        except Exception as error:
            return error

    def _images(
        self, results: Iterable[npt.NDArray[np.uint8] | Exception], count: int, partial: bool
    ) -> LoadedImages | VireoError:
        pixels = np.zeros((count, 3, self._spec.size, self._spec.size), dtype=np.uint8)
        readable = np.ones((count, 1), dtype=bool)
        errors = np.full((count, 1), b"", dtype=object)
        fault = True
        for row, result in enumerate(results):
            if isinstance(result, np.ndarray):
                pixels[row] = result
                continue
            readable[row] = False
            errors[row] = str(result).encode()
            fault = fault and isinstance(result, ImageError)  # else out of memory, say
        if not partial and not readable.all():
            message = b"; ".join(errors[~readable]).decode()
            return DataError(message) if fault else VireoError(message)
        return LoadedImages(pixels, readable, errors)


def _is_partial(parameters: str) -> bool:
    return json.loads(parameters or "{}").get(PARTIAL) in (True, "true")
