"""Uploaded images: read under limits, before anything decodes them."""

from __future__ import annotations

import asyncio
import base64

from fastapi import UploadFile
from vireo_client.errors import DataError, ImageError
from vireo_client.images import MAX_PIXELS, decoding_work

from .problems import TooLargeError
from .settings import Limits


async def read_upload(upload: UploadFile, limits: Limits) -> bytes:
    """Return the bytes of an uploaded image.

    Raises:
        TooLargeError: there are too many.
        ImageError: it is no image, or would take too long to decode.
    """
    data = await upload.read(limits.upload_bytes + 1)
    await asyncio.to_thread(_check_bytes, data, limits)
    return data


async def read_base64(text: str, limits: Limits) -> bytes:
    """Return the bytes of an image that is written in base64.

    Raises:
        DataError: it is not.
        TooLargeError: there are too many bytes.
        ImageError: it is no image, or would take too long to decode.
    """

    def read() -> bytes:
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            raise DataError("image: is no base64; give the bytes of an image's file") from None
        _check_bytes(data, limits)
        return data

    return await asyncio.to_thread(read)


def _check_bytes(data: bytes, limits: Limits) -> None:
    """Refuse an image that is too large to decode for a stranger.

    Raises:
        TooLargeError: it has too many bytes.
        ImageError: it is no image, or would take too long to decode.
    """
    if len(data) > limits.upload_bytes:
        raise TooLargeError(
            f"the image has more than {limits.upload_bytes:,} bytes; make it smaller"
        )
    if not data:
        raise ImageError("the image has no bytes; choose another file")
    if decoding_work(data) > MAX_PIXELS:
        raise ImageError("the image would take too long to decode; save it without progression")
