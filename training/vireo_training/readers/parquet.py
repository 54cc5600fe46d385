"""Parquet files: a column of image paths or of embedded images, and captions.

Embedded images are bytes, or the `{"bytes", "path"}` that Hugging Face's `datasets` writes; they
are unpacked once, see `unpacked`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError, first_line
from vireo_client.fields import (
    caption_fields,
    captions_in_cell,
    captions_of,
    checked_path,
    image_field,
    split_field,
    split_of,
)
from vireo_client.images import SUFFIXES
from vireo_client.parquet import damage, open_parquet
from vireo_client.tars import MAX_TEXT_BYTES

from .limits import MAX_IMAGE_BYTES, check_size
from .unpacked import Embedded

_ROWS = 8
"""Rows in memory at a time: few, as each may carry an image of the largest size."""


def holds_images(path: Path) -> bool:
    """Return whether the image column holds images, and not only their paths.

    Raises:
        DataError: no readable parquet file, or one without the columns.
        MissingExtraError: pyarrow is not installed.
    """
    schema = open_parquet(path).schema_arrow
    import pyarrow as pa  # not before: without it, `open_parquet` says what to install

    field, _ = _columns(path, schema.names)
    kind = schema.field(field).type
    return bool(
        pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    )


def read(path: Path) -> Iterator[Described | Embedded | Skip]:
    """Yield one item a row, counted from 0.

    Raises:
        DataError: no readable parquet file, or one without the columns.
        MissingExtraError: pyarrow is not installed.
    """
    file = open_parquet(path)
    image, captions = _columns(path, file.schema_arrow.names)
    named = split_field(file.schema_arrow.names)
    wanted = [image, *captions, *([named] if named else [])]
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
            for place in range(len(batch)):
                row = batch.slice(place, 1)
                where = f"{path}: row {number}"
                number += 1
                try:
                    check_size("it", row.nbytes, MAX_IMAGE_BYTES + MAX_TEXT_BYTES)
                    yield _item(where, row.to_pylist()[0], image, captions)
                except ValueError as error:
                    yield Skip(where, str(error))
    except damage() as error:
        yield Skip(f"{path}: row {number}", f"damaged from here on ({first_line(error)})")


def read_paths(path: Path) -> Iterator[Described | Skip]:
    """Yield one item a row of a file that names its images; errors as `read`."""
    for item in read(path):
        if not isinstance(item, Embedded):
            yield item


def _columns(path: Path, names: list[str]) -> tuple[str, list[str]]:
    image, captions = image_field(names), caption_fields(names)
    if image is None or not captions:
        raise DataError(
            f"{path}: needs a column of images (image, file_name, ...) and one of captions "
            f"(caption, ...); it has {', '.join(names)}"
        )
    return image, captions


def _item(where: str, row: dict[str, Any], field: str, captions: list[str]) -> Described | Embedded:
    # A cell that is itself a text may hold a list; what is in a column of lists is a caption.
    cells = {c: captions_in_cell(row[c]) if isinstance(row[c], str) else row[c] for c in captions}
    texts = captions_of(cells, captions)
    image, suffix = row[field], ".img"
    if isinstance(image, dict):
        # `datasets` leaves the bytes empty where the image stayed a file.
        named = Path(str(image.get("path"))).suffix.lower()
        suffix = named if named in SUFFIXES else suffix
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        return Embedded(where, image, texts, suffix, split_of(row))
    return Described(where, checked_path(image, field).strip(), texts, split_of(row))
