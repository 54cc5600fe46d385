"""Queries from a file: a query a line in, a line of JSON out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError
from ..index.matches import Matches
from ..printing import json_line, say
from ..ranking import SearchOptions
from ..search import SearchClient
from .showing import answer_line, draw_sheet

_AT_ONCE = 64
"""Queries that are embedded and searched together."""

Line = tuple[int, str]
"""A query and the number of its line, from 1."""


def answer_file(
    client: SearchClient,
    source: Path,
    k: int,
    options: SearchOptions,
    *,
    hybrid: bool = False,
    captions: bool = False,
    sheets: Path | None = None,
) -> None:
    """Answer the queries of a file on standard output, one JSON object a line.

    Blank lines are passed over. A query that cannot be answered gets an object with `error` in
    place of `matches`; the others are answered.

    Args:
        client: an open client.
        source: the file, in UTF-8; `-` is standard input.
        k: matches of each query.
        options: of all searches.
        hybrid: whether words count too.
        captions: whether captions are searched, not images.
        sheets: a folder that gets a sheet a query, named by the number of its line.

    Raises:
        DataError: queries could not be answered, at the end; or the file is not UTF-8.
        OSError: the file cannot be read.
    """

    def search(texts: list[str]) -> list[Matches]:
        if captions:
            return [client.similar_captions(text, k, **options) for text in texts]
        return client.search_many(texts, k, hybrid=hybrid, **options)

    if sheets is not None:
        sheets.mkdir(parents=True, exist_ok=True)
    failed = total = 0
    with sys.stdin.buffer if source == Path("-") else source.open("rb") as file:
        lines = read_lines(file, str(source))
        while batch := list(islice(lines, _AT_ONCE)):
            for (number, text), answer in _answers(batch, search):
                total += 1
                if isinstance(answer, DataError):
                    failed += 1
                    say(json_line({"query": text, "error": str(answer)}))
                    continue
                say(answer_line(text, answer))
                if sheets is not None:
                    draw_sheet(sheets / f"{number:05d}.png", text, answer)
    if failed:
        raise DataError(f"{source}: {failed} of {total} queries could not be answered; see `error`")


def read_lines(file: BinaryIO, name: str) -> Iterator[Line]:
    """Yield the lines of a file that hold something, without the blanks around them.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            raise DataError(f"{name}, line {number}: not UTF-8; save the file as UTF-8") from None
        if text:
            yield number, text


def _answers(
    batch: list[Line], search: Callable[[list[str]], list[Matches]]
) -> Iterator[tuple[Line, Matches | DataError]]:
    """Answer queries together; where one spoils the batch, each alone shows what is wrong."""
    try:
        yield from zip(batch, search([text for _, text in batch]), strict=True)
    except DataError as error:
        if len(batch) == 1:
            yield batch[0], error
            return
        for line in batch:
            yield from _answers([line], search)
