"""Lists of images with captions and columns of the user's own: JSONL, CSV and parquet.

The image's column and those of captions are found by their names, as `fields` knows them. Every
other column is metadata: a text, a number, true or false, a date, or nothing in some rows. A column
of a CSV file whose cells are all numbers holds numbers.
"""

from __future__ import annotations

import datetime
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..captions import (
    MAX_LINE_BYTES,
    CaptionedImage,
    Described,
    OutsideError,
    Skip,
    collect,
    find_image,
    numbered_lines,
    read_json_lines,
)
from ..errors import DataError, first_line
from ..fields import (
    caption_fields,
    captions_in_cell,
    captions_of,
    image_field,
    image_name,
    split_field,
)
from ..index.metadata import BUILT_IN, ImageFields, infer
from ..parquet import damage, open_parquet
from ..tables import delimiter_of, read_rows, split_rows

logger = logging.getLogger(__name__)

_ROWS = 1024
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")

Value = str | int | float


def read_list(
    path: Path, *, allow_outside: bool = False
) -> tuple[list[CaptionedImage], list[Skip]]:
    """Read a list of images.

    A name is looked up relative to the list's folder, in NFC and in NFD. Several records of one
    image are joined. An image needs no caption.

    Args:
        path: a file whose name ends in .jsonl, .csv, .tsv or .parquet; another one is read as
            JSONL.
        allow_outside: let the list name files that do not lie below its folder: by an absolute
            path, by `..`, or through a link. A list from elsewhere could otherwise name any file.

    Raises:
        DataError: the list has no column of images, or no usable record.
        MissingExtraError: it is a parquet file and pyarrow is not installed.
    """
    suffix = path.suffix.lower()
    reader = {".csv": _read_table, ".tsv": _read_table, ".parquet": _read_parquet}
    folder = path.parent

    def find(image: str) -> Path:
        try:
            return find_image(folder, image, anywhere=allow_outside)
        except OutsideError:
            raise ValueError(
                f"{image}: lies outside the folder of the list; give --allow-outside to index it"
            ) from None

    try:
        captions = collect(path, reader.get(suffix, _read_lines)(path), find, bare=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    records = captions.records
    if suffix in (".csv", ".tsv"):
        _type_columns(records)
    _leave_out_built_in(path, records)
    # Values that go together as they are; the index is not asked before they are all known.
    infer(ImageFields(0, f"{path}: {r.path}", r.fields) for r in records)
    return records, captions.skipped


def _type_columns(records: Sequence[CaptionedImage]) -> None:
    """Make numbers of the texts in a column where each of them is one."""
    columns: dict[str, list[dict[str, Value]]] = {}
    for record in records:
        for name in record.fields:
            columns.setdefault(name, []).append(cast(dict[str, Value], record.fields))
    for name, rows in columns.items():
        for kind in (int, float):
            numbers = [_number(row[name], kind) for row in rows]
            if None not in numbers:
                for row, number in zip(rows, numbers, strict=True):
                    row[name] = cast(Value, number)
                break


def _number(value: Value, kind: type[int] | type[float]) -> int | float | None:
    """Return the number that a text is, None if it is not written as one: `007` is no number."""
    text = str(value).strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        number = kind(text)
    except ValueError:
        return None
    return number if abs(number) < 2**63 else None


def _leave_out_built_in(path: Path, records: Sequence[CaptionedImage]) -> None:
    clashing = {name for record in records for name in record.fields if name in BUILT_IN}
    if clashing:
        logger.warning(
            "%s: its columns %s are left out, as an index fills these from the files; give them "
            "other names to filter by them",
            path, ", ".join(sorted(clashing)),
        )  # fmt: skip
        for record in records:
            for name in clashing & record.fields.keys():
                del cast(dict[str, Value], record.fields)[name]


def _read_lines(path: Path) -> Iterator[Described | Skip]:
    return read_json_lines(path, _described)


def _described(where: str, record: Mapping[str, object]) -> Described:
    names = [str(name) for name in record]
    named = image_name(record, names)
    of_captions = caption_fields(names)
    captions = captions_of(record, names) if any(record[c] for c in of_captions) else []
    split = split_field(names)
    ours = {image_field(names), split, *of_captions}
    # Karpathy's files keep the folder of the image in a column of its own.
    ours |= {"filepath"} if named != record[image_field(names) or ""] else set()
    fields = {name: _value(name, record[name]) for name in names if name not in ours}
    return Described(
        where,
        named,
        captions,
        record[split] if split is not None else None,
        {name: value for name, value in fields.items() if value is not None},
    )


def described_record(record: Mapping[str, object]) -> tuple[list[str], dict[str, Value]]:
    """Return the captions and the metadata of a JSON object that names no image.

    Raises:
        ValueError: a value is of no type that metadata can hold.
    """
    described = _described("", {"image": "image"} | dict(record))
    texts = [text for text in described.captions if isinstance(text, str) and text.strip()]
    return texts, dict(described.fields)


def text_records(path: Path) -> Iterator[dict[str, Value] | Skip]:
    """Yield a record for each caption of a JSONL file: `caption`, and what else its line says."""
    for item in read_json_lines(path, lambda where, record: described_record(record)):
        if isinstance(item, Skip):
            yield item
        else:
            captions, fields = item
            yield from ({**fields, "caption": caption} for caption in captions)


def _value(name: str, value: object) -> Value | None:
    """Return a value as metadata can hold it; None for nothing.

    Raises:
        ValueError: it is of no such type.
    """
    if value is None or value == "":
        return None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f'"{name}" is a whole number of more than 64 bits')
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (list, dict)):  # kept as what it is written as
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, datetime.date):  # a moment is one too
        return value.isoformat()
    return str(value)  # a decimal of a parquet file, say


def _read_table(path: Path) -> Iterator[Described | Skip]:
    with path.open("rb") as file:
        lines = _text_lines(path, file)
        header = next(lines, "").removeprefix("\ufeff")
        delimiter = delimiter_of(header, lambda names: image_field(names) is not None)
        if delimiter is None:
            raise DataError(
                f"{path}:1: the header names no column of images (image, file_name, path, ...); it "
                f"is: {header[:80]!a}"
            )
        names = next(split_rows([header], delimiter))

        def read(where: str, row: list[str]) -> Described:
            return _described(where, _record(names, row))

        yield from read_rows(path, lines, delimiter, len(names), read, first_line=2)


def _text_lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """Yield lines as texts; bytes that are no UTF-8 become lone surrogates."""
    for number, line in numbered_lines(file):
        if line is None:
            raise DataError(f"{path}:{number}: a line of more than {MAX_LINE_BYTES:,} bytes")
        yield line.decode("utf-8", "surrogateescape")


def _record(names: Sequence[str], row: Sequence[str]) -> dict[str, object]:
    of_captions = set(caption_fields(names))
    image = image_field(names)
    record: dict[str, object] = {}
    for name, cell in zip(names, row, strict=True):
        if name in of_captions:
            # A table with five caption columns leaves some empty where an image has fewer.
            record[name] = captions_in_cell(cell) if cell.strip() else None
        else:
            record[name] = cell.strip() if name == image else cell
    return record


def _read_parquet(path: Path) -> Iterator[Described | Skip]:
    file = open_parquet(path)
    names = file.schema_arrow.names
    image = image_field(names)
    if image is None:
        raise DataError(f"{path}: names no column of images; it has {', '.join(names)}")
    if not _is_text(file.schema_arrow.field(image).type):
        raise DataError(
            f"{path}: its column {image} holds images and no paths; write them to files, with "
            "`vireo data`, and index their folder"
        )
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_ROWS):
            for record in batch.to_pylist():
                where = f"{path}: row {number}"
                number += 1
                try:
                    yield _described(where, record)
                except ValueError as error:
                    yield Skip(where, str(error))
    except damage() as error:
        if not number:
            raise DataError(f"{path}: not a readable parquet file ({first_line(error)})") from None
        yield Skip(f"{path}: row {number}", f"damaged from here on ({first_line(error)})")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
