"""Reads what a camera wrote into an image: when, where and with what it was taken.

Cameras and editors write broken EXIF blocks. What cannot be read is left out; an image is never
refused for it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..errors import DataError
from .dates import parse_moment

logger = logging.getLogger(__name__)

_WIDTH, _HEIGHT, _MAKE, _MODEL, _ORIENTATION = 0x0100, 0x0101, 0x010F, 0x0110, 0x0112
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_TIMES = ((0x9003, 0x9011), (0x9004, 0x9012))
"""Tags of the time of the exposure, then of its digitisation: the time, its distance to UTC."""
_LATITUDE, _LONGITUDE = (1, 2, "NS", 90.0), (3, 4, "EW", 180.0)
"""Tags of the hemisphere and of the angle, the hemispheres (the second is negative), the limit."""


def read_exif(image: Image.Image) -> dict[str, str | int | float]:
    """Read the fields of an image that has been opened; its pixels are not decoded for it.

    Args:
        image: opened by Pillow, decoded or not.

    Returns:
        Those of `width`, `height` (of the upright image), `taken`, `latitude`, `longitude`
        (degrees, north and east positive), `make` and `model` that are there and make sense.
    """
    fields: dict[str, str | int | float] = {}
    width, height = image.size
    try:
        # A PNG may hold its block behind the pixels, and `getexif` would decode them to get there.
        late = image.format == "PNG" and "exif" not in image.info
        exif = Image.Exif() if late else image.getexif()
        # Newer Pillows give the upright size of a TIFF already.
        upright = image.format == "TIFF" and image.size != (exif.get(_WIDTH), exif.get(_HEIGHT))
        if exif.get(_ORIENTATION) in (5, 6, 7, 8) and not upright:
            width, height = height, width
        fields.update(_camera(exif))
        fields.update(_taken(exif.get_ifd(_EXIF_IFD)))
        fields.update(_place(exif.get_ifd(_GPS_IFD)))
    except Exception as error:  # what a broken block raises is of many kinds, as with decoders
        logger.debug("%s: EXIF not read (%s)", getattr(image, "filename", "image"), error)
    return {"width": width, "height": height, **fields}


def _camera(exif: Mapping[int, Any]) -> dict[str, str]:
    named = {"make": _text(exif.get(_MAKE)), "model": _text(exif.get(_MODEL))}
    return {name: text for name, text in named.items() if text}


def _taken(tags: Mapping[int, Any]) -> dict[str, str]:
    for time, zone in _TIMES:
        text = _text(tags.get(time))  # 2024:05:17 08:30:00
        if not text:
            continue
        text = text[:10].replace(":", "-") + text[10:19]
        for suffix in (_text(tags.get(zone)), ""):  # the distance may be broken, the time whole
            try:
                return {"taken": parse_moment(text + suffix)}
            except DataError:
                continue  # cameras without a clock write 0000:00:00 00:00:00
    return {}


def _place(tags: Mapping[int, Any]) -> dict[str, float]:
    latitude, longitude = _degrees(tags, *_LATITUDE), _degrees(tags, *_LONGITUDE)
    if latitude is None or longitude is None:
        return {}
    return {"latitude": latitude, "longitude": longitude}


def _degrees(
    tags: Mapping[int, Any], side: int, angle: int, sides: str, limit: float
) -> float | None:
    hemisphere, parts = _text(tags.get(side)).upper()[:1], tags.get(angle)
    if not hemisphere or hemisphere not in sides or not isinstance(parts, tuple):
        return None
    try:
        degrees: float = sum(float(part) / 60**power for power, part in enumerate(parts[:3]))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not math.isfinite(degrees) or not 0 <= degrees <= limit:
        return None
    return round(-degrees if hemisphere == sides[1] else degrees, 7)  # to a centimetre


def _text(value: object) -> str:
    """Return a tag's text: cameras fill it up with NUL characters and blanks."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str):
        return ""
    return value.partition("\0")[0].encode("utf-8", errors="replace").decode().strip()
