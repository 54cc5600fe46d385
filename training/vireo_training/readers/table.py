"""CSV, TSV and the bar-separated table of Flickr30k: a header line, then one caption or more a row.

Columns are found by name: an image (`image`, `file_name`, `image_name`, ...) and captions
(`caption`, `comment`, `caption_1`, ...).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError

from .fields import caption_fields, checked_path, image_field

if TYPE_CHECKING:
    from _csv import Reader

_DELIMITERS = ",\t|;"


def delimiter_of(header: str) -> str | None:
    """Return what separates the columns of `header`; None if it names no image and caption."""
    for delimiter in _DELIMITERS:
        try:
            names = next(_rows([header], delimiter))
        except csv.Error:  # quotation marks that fit no table
            continue
        if image_field(names) is not None and caption_fields(names):
            return delimiter
    return None


def read(path: Path) -> Iterator[Described | Skip]:
    """Yield one item a row; a row that the columns do not fit is a skip.

    Raises:
        DataError: the first line does not name a column of images and one of captions.
    """
    # Bytes that are no UTF-8 become lone surrogates here, and cost their own row only.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        header = file.readline().rstrip("\r\n")
        delimiter = delimiter_of(header)
        if delimiter is None:
            raise DataError(
                f"{path}:1: the header names no image and caption column, as in "
                f"image,caption; it is: {header[:80]!a}"
            )
        names = next(_rows([header], delimiter))
        yield from _items(path, file, names, delimiter)


def _items(
    path: Path, file: TextIO, names: list[str], delimiter: str
) -> Iterator[Described | Skip]:
    image = names.index(image_field(names) or "")
    captions = [names.index(name) for name in caption_fields(names)]
    rows = _rows(file, delimiter)
    while True:
        where = f"{path}:{rows.line_num + 2}"  # the header is line 1, and rows count from 0
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            last = rows.line_num + 1
            yield Skip(where, f"not a row of a table, up to line {last} ({error})")
            continue
        if not row:
            continue
        try:
            yield Described(where, *_described(row, names, image, captions))
        except ValueError as error:
            yield Skip(where, str(error))


def _described(
    row: list[str], names: list[str], image: int, captions: list[int]
) -> tuple[str, list[object]]:
    if any("\udc80" <= letter <= "\udcff" for cell in row for letter in cell):
        raise ValueError("not UTF-8")
    if len(row) != len(names):
        raise ValueError(f"{len(row)} fields where the header has {len(names)}")
    texts = [row[column] for column in captions]
    # A table with five caption columns leaves some empty where an image has fewer.
    filled: list[object] = [text for text in texts if text.strip()]
    return checked_path(row[image], names[image]), filled or [texts[0]]


def _rows(lines: TextIO | list[str], delimiter: str) -> Reader:
    # Bar-separated files do not quote; a quotation mark there is part of the caption. `strict`
    # makes a quote that never closes an error instead of a caption as long as the file.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    return csv.reader(
        lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True
    )
