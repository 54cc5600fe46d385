"""COCO-style captions, images and sentences in two lists.

`{"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}`: KTVIC, UIT-ViIC and
the translations of COCO come like this. An image may name its `split`. KTVIC says `filename`
and adds `segment_caption`, the same caption with its words joined: Vireo segments by itself, so
that one is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError
from vireo_client.fields import captions_of, image_name, split_of


def read(path: Path, document: Any) -> Iterator[Described | Skip]:
    """Yield one item an annotation, and a skip for each image that none describes.

    Raises:
        DataError: the document has no lists of images and annotations.
    """
    images, annotations = tables(path, document)
    names, broken = image_names(path, images)
    yield from broken
    undescribed = dict.fromkeys(names)
    splits = {str(i["id"]): split_of(i) for i in images if isinstance(i, dict) and "id" in i}
    for number, annotation in enumerate(annotations):
        where = f"{path}: annotations[{number}]"
        try:
            key, name = image_of(annotation, names)
            undescribed.pop(key, None)
            captions = captions_of(annotation, list(annotation))
        except ValueError as error:
            yield Skip(where, str(error))
            continue
        yield Described(where, name, captions, splits.get(key))
    for key in undescribed:
        yield Skip(f"{path}: image {key}", f"no annotation describes {names[key]}")


def tables(path: Path, document: Any) -> tuple[list[Any], list[Any]]:
    """Return the lists "images" and "annotations" of a document.

    Raises:
        DataError: it has no such lists.
    """
    if isinstance(document, dict):
        images, annotations = document.get("images"), document.get("annotations")
        if isinstance(images, list) and isinstance(annotations, list):
            return images, annotations
    raise DataError(f'{path}: not an object with the lists "images" and "annotations"')


def image_names(path: Path, images: list[Any]) -> tuple[dict[str, str], list[Skip]]:
    """Return the file names by id, and the entries that have none."""
    names: dict[str, str] = {}
    broken: list[Skip] = []
    for number, image in enumerate(images):
        where = f"{path}: images[{number}]"
        try:
            key = _key(image, "id")
            name = image_name(image, list(image))
        except ValueError as error:
            broken.append(Skip(where, str(error)))
            continue
        if names.setdefault(key, name) != name:
            broken.append(Skip(where, f"id {key} is {names[key]} already"))
    return names, broken


def image_of(annotation: Any, names: dict[str, str]) -> tuple[str, str]:
    """Return id and file name of the image an annotation speaks of.

    Raises:
        ValueError: it names none, or one that "images" lacks.
    """
    key = _key(annotation, "image_id")
    if key not in names:
        raise ValueError(f'"images" has no id {key}')
    return key, names[key]


def _key(entry: Any, field: str) -> str:
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    value = entry.get(field)
    # Some files write an id as a number here and as a string there.
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f'"{field}" must be a number or a string')
    return str(value)
