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
from vireo_client.images import MAX_PIXELS, decoding_work, load_pixels

MAX_REQUEST_PIXELS = MAX_PIXELS
"""Pixels of all images of a request: as many as one image may have. They are read from the headers
before anything is decoded, because a file of 600 bytes may hold them all."""
MAX_IMAGE_BYTES = 64 << 20
"""Bytes of one image; a photo of 108 megapixels has half as many."""
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
        refused = [_refusal(files) for files in rows]
        rows = [files[:0] if error else files for files, error in zip(rows, refused, strict=True)]
        if sum(map(len, rows)) == 1:  # not worth another thread
            loaded: list[Iterable[npt.NDArray[np.uint8] | Exception]] = [
                [self._load(number, value) for number, value in enumerate(files)] for files in rows
            ]
        else:
            # All are under way before the first is waited for.
            loaded = [self._pool.map(self._load, range(len(files)), files) for files in rows]
        return [
            error or self._images(results, len(files), _is_partial(text))
            for error, results, files, text in zip(refused, loaded, rows, parameters, strict=True)
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


def _refusal(files: npt.NDArray[np.object_]) -> DataError | None:
    """Return why the images of one request would take too long, or None."""
    for row, file in enumerate(files):
        if len(file) > MAX_IMAGE_BYTES:
            return DataError(
                f"image {row}: has {len(file):,} bytes, at most {MAX_IMAGE_BYTES:,} are taken; "
                "send a smaller one"
            )
    work = sum(map(decoding_work, files))
    if work <= MAX_REQUEST_PIXELS:
        return None
    return DataError(
        f"the images of this request ({len(files)}) make {work:,} pixels to decode, at most "
        f"{MAX_REQUEST_PIXELS:,} are taken at once (a JPEG counts once for every ten scans); send "
        "fewer, or smaller ones"
    )


def _is_partial(parameters: str) -> bool:
    return json.loads(parameters or "{}").get(PARTIAL) in (True, "true")
