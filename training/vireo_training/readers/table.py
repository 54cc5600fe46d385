"""CSV, TSV and the bar-separated table of Flickr30k: a header line, then one caption or more a row.

Columns are found by name: an image (`image`, `file_name`, `image_name`, ...) and captions
(`caption`, `comment`, `caption_1`, ...). A table without a header is read with names given for its
columns. A cell may hold a list of captions, as JSON or as Python prints it.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TextIO

from vireo_client import tables
from vireo_client.captions import Described, Skip
from vireo_client.errors import DataError
from vireo_client.fields import (
    caption_fields,
    captions_in_cell,
    checked_path,
    image_field,
    split_field,
)
from vireo_client.images import SUFFIXES
from vireo_client.tables import DELIMITERS, read_rows, split_rows

UTF16 = "utf-16"


def encoding_of(head: bytes) -> str:
    """Return the encoding of a table by its first bytes: UTF-8, or UTF-16 as Excel writes it."""
    return UTF16 if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def delimiter_of(header: str) -> str | None:
    """Return what separates the columns of `header`; None if it names no image and caption."""
    return tables.delimiter_of(
        header, lambda names: image_field(names) is not None and bool(caption_fields(names))
    )


def read(path: Path, columns: Sequence[str] = ()) -> Iterator[Described | Skip]:
    """Yield one item a row; a row that the columns do not fit is a skip.

    Args:
        columns: names for the columns of a table that has no header; a header of its own counts
            more.

    Raises:
        DataError: the first line does not name a column of images and one of captions, nor do
            `columns` fit it.
    """
    with path.open("rb") as binary:
        encoding = encoding_of(binary.read(4))
    # Bytes that are no UTF-8 become lone surrogates here, and cost their own row only.
    errors = "replace" if encoding == UTF16 else "surrogateescape"
    with path.open(encoding=encoding, errors=errors, newline="") as file:
        header = file.readline().rstrip("\r\n")
        delimiter = delimiter_of(header)
        if delimiter is None and columns:
            file.seek(0)
            delimiter = _delimiter_for(path, file, columns)
            file.seek(0)
            yield from _items(path, file, [*columns], delimiter, first_line=1)
            return
        if delimiter is None:
            raise DataError(
                f"{path}:1: the header names no image and caption column, as in "
                f"image,caption; it is: {header[:80]!r}; name the columns of a "
                "table without a header with --columns image,caption"
            )
        names = next(split_rows([header], delimiter))
        yield from _items(path, file, names, delimiter, first_line=2)


def check_columns(columns: Sequence[str]) -> None:
    """Refuse names of columns that leave open which holds the image or the captions.

    Raises:
        DataError: they do.
    """
    if image_field(columns) is None or not caption_fields(columns):
        raise DataError(
            f"--columns {','.join(columns)}: name a column of images (image, file_name, ...) and "
            "one of captions (caption, ...), as in image,caption; give the others any name"
        )


def _delimiter_for(path: Path, file: TextIO, columns: Sequence[str]) -> str:
    """Return what separates the first row into `columns`, with an image where it should be."""
    image = columns.index(image_field(columns) or "")
    for delimiter in DELIMITERS:
        file.seek(0)
        try:
            row = next(split_rows(file, delimiter), [])
        except csv.Error:
            continue
        if len(row) == len(columns) and PurePath(row[image].strip()).suffix.lower() in SUFFIXES:
            return delimiter
    raise DataError(
        f"{path}:1: not {len(columns)} columns ({', '.join(columns)}), parted by a comma, a tab, a "
        "bar or a semicolon, with the file name of an image among them"
    )


def _items(
    path: Path, file: TextIO, names: list[str], delimiter: str, *, first_line: int
) -> Iterator[Described | Skip]:
    image = names.index(image_field(names) or "")
    captions = [names.index(name) for name in caption_fields(names)]
    split = names.index(name) if (name := split_field(names)) is not None else None

    def describe(where: str, row: list[str]) -> Described:
        texts = [row[column] for column in captions]
        # A table with five caption columns leaves some empty where an image has fewer.
        filled = [found for text in texts if text.strip() for found in captions_in_cell(text)]
        named = checked_path(row[image], names[image]).strip()
        return Described(
            where, named, filled or [texts[0]], row[split] if split is not None else None
        )

    return read_rows(path, file, delimiter, len(names), describe, first_line=first_line)
