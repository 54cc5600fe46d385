"""Limits of what a data file may hold: a small file can unpack to any size."""

from __future__ import annotations

MAX_IMAGE_BYTES = 128 << 20
"""Bytes of one embedded image; a photo of 108 megapixels has a quarter of them."""


def check_size(what: str, size: int, most: int = MAX_IMAGE_BYTES) -> None:
    """Refuse a part of a data file that is larger than any real one.

    Raises:
        ValueError: it has more than `most` bytes, or fewer than none.
    """
    if not 0 <= size <= most:
        raise ValueError(f"{what} has {size:,} bytes, at most {most:,} are taken")
