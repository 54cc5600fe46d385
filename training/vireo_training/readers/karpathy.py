"""Karpathy's splits of Flickr8k, Flickr30k and COCO: `dataset_coco.json` and its like.

`{"images": [{"filepath": "val2014", "filename": "1.jpg", "sentences": [{"raw": "..."}],
"split": "restval"}]}`. `filepath` is a folder, and `restval` is for training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError
from vireo_client.fields import caption_fields

from . import json_list


def holds_captions(document: Any) -> bool:
    """Return whether the list "images" of `document` holds the captions too."""
    images = document.get("images") if isinstance(document, dict) else None
    return isinstance(images, list) and any(
        isinstance(image, dict) and caption_fields(list(image)) for image in images
    )


def read(path: Path, document: Any) -> Iterator[Described | Skip]:
    """Yield one item an image.

    Raises:
        DataError: the document has no list "images".
    """
    images = document.get("images") if isinstance(document, dict) else None
    if not isinstance(images, list):
        raise DataError(f'{path}: not an object with the list "images"')
    return json_list.read(path, images, "images")
