"""A JSON list of objects: MiniCLIP's `[{"file_name": "a.jpg", "caption": "..."}]` and its like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError
from vireo_client.fields import described


def read(path: Path, document: Any, name: str = "") -> Iterator[Described | Skip]:
    """Yield one item an object.

    Args:
        name: what the list is called in its file, for messages.

    Raises:
        DataError: the document is no list.
    """
    if not isinstance(document, list):
        raise DataError(f'{path}: not a list of {{"file_name", "caption"}}')
    for number, record in enumerate(document):
        where = f"{path}: {name}[{number}]"
        try:
            if not isinstance(record, dict):
                raise ValueError("not an object")
            image, captions, split = described(record)
        except ValueError as error:
            yield Skip(where, str(error))
        else:
            yield Described(where, image, captions, split)
