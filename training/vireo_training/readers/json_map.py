"""A JSON object keyed by image: UIT-OpenViIC's `{"a.jpg": {"captions": ["...", "..."]}}`.

The value may also be the list of captions, or one caption.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError
from vireo_client.fields import captions_of, checked_path, image_field, image_name, split_of
from vireo_client.images import SUFFIXES


def is_keyed_by_image(document: Any) -> bool:
    """Return whether a key of `document` is the name of an image file."""
    return isinstance(document, dict) and any(map(_is_image, document))


def read(path: Path, document: Any) -> Iterator[Described | Skip]:
    """Yield one item an image.

    Raises:
        DataError: the document is no object.
    """
    if not isinstance(document, dict):
        raise DataError(f'{path}: not an object {{"a.jpg": {{"captions": [...]}}}}')
    for key, value in document.items():
        where = f'{path}: ["{key}"]'
        try:
            yield Described(where, *_described(key, value))
        except ValueError as error:
            yield Skip(where, str(error))


def _described(key: str, value: Any) -> tuple[str, list[object], object]:
    if isinstance(value, dict):
        names = list(value)
        # A key that is a number leaves the name to the value.
        inside = not _is_image(key) and image_field(names) is not None
        image = image_name(value, names) if inside else checked_path(key, "key")
        return image, captions_of(value, names), split_of(value)
    if not isinstance(value, (str, list)):
        raise ValueError('neither a caption, nor a list of them, nor {"captions": [...]}')
    return checked_path(key, "key"), captions_of({"captions": value}, ["captions"]), None


def _is_image(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in SUFFIXES
