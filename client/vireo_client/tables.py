"""Rows of tables: a header line, then cells between commas, tabs, bars or semicolons."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from .captions import Skip

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = ",\t|;"

T = TypeVar("T")


def split_rows(lines: Iterable[str], delimiter: str) -> Reader:
    """Split the lines of a table into rows of cells."""
    # Bar-separated files do not quote; a quotation mark there is part of the caption. `strict`
    # makes a quote that never closes an error instead of a caption as long as the file.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    return csv.reader(
        lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True, strict=True
    )


def delimiter_of(header: str, fits: Callable[[list[str]], bool]) -> str | None:
    """Return what separates a header into names that fit; None if nothing does."""
    for delimiter in DELIMITERS:
        try:
            names = next(split_rows([header], delimiter), [])
        except csv.Error:  # quotation marks that fit no table
            continue
        if fits(names):
            return delimiter
    return None


def read_rows(
    path: Path,
    lines: Iterable[str],
    delimiter: str,
    width: int,
    read: Callable[[str, list[str]], T],
    *,
    first_line: int,
) -> Iterator[T | Skip]:
    """Read the rows of a table; empty lines are passed over.

    Args:
        path: the file, for messages.
        lines: as they are in the file; bytes that are no UTF-8 are lone surrogates.
        delimiter: what separates the cells.
        width: how many cells a row has.
        read: makes an item of a row's place and its cells; what it raises as ValueError becomes a
            skip, as does a row of another width or one that is not UTF-8.
        first_line: the number in the file of the first of `lines`.
    """
    rows = split_rows(lines, delimiter)
    while True:
        where = f"{path}:{rows.line_num + first_line}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            last = rows.line_num + first_line - 1
            yield Skip(where, f"not a row of a table, up to line {last} ({error})")
            continue
        if not row:
            continue
        try:
            _check_utf8(row)
            if len(row) != width:
                raise ValueError(f"{len(row)} fields where the header has {width}")
            yield read(where, row)
        except ValueError as error:
            yield Skip(where, str(error))


def _check_utf8(row: list[str]) -> None:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8") from None
