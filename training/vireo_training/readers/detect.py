"""The format of a file, by its first bytes, or by its name where these do not show it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from vireo_client.errors import DataError

from . import flickr, json_map, table

FORMATS = ("jsonl", "coco", "evjvqa", "karpathy", "json", "flickr", "csv", "parquet", "webdataset")
"""The values of `--format`."""

_HEAD = 1 << 16


def detect(path: Path, columns: Sequence[str] = ()) -> str:
    """Return one of `FORMATS`; "json" also stands for the layouts that only a parse tells apart.

    Args:
        columns: names for the columns of a table without a header; a text that nothing else
            claims is one then.

    Raises:
        DataError: the file looks like none of them.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return "parquet"
    if ".tar" in [suffix.lower() for suffix in path.suffixes] or tarfile.is_tarfile(path):
        return "webdataset"
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return "jsonl"
    line = _first_line(head)
    wide = table.encoding_of(head) == table.UTF16
    for name, matches in _TEXTS.items():
        if matches(line) and (name == "csv" or not wide):
            return name
    if columns:
        return "csv"
    if wide:
        raise DataError(
            f"{path}:1: is UTF-16, of which only tables are read, and its header names no image "
            f"and caption column; it begins {line[:60]!r}; name them with --columns image,caption, "
            "or save the file as UTF-8"
        )
    raise DataError(
        f"{path}:1: of an unknown format; it begins {line[:60]!r}; name the format with "
        f"--format {', '.join(FORMATS)}, or the columns of a table without a header with --columns "
        "image,caption"
    )


def _first_line(head: bytes) -> str:
    text = head.decode(table.encoding_of(head), "replace").lstrip()
    return text.split("\n", 1)[0].rstrip("\r")


def _is_jsonl(line: str) -> bool:
    if not line.startswith("{") or len(line.encode()) >= _HEAD - 3:
        return False  # a record that fills the head is a whole document on one line
    try:
        record = json.loads(line)
        return "images" not in record and not json_map.is_keyed_by_image(record)
    except (ValueError, RecursionError):
        # A first record that is broken, unless the line is the start of a document: those break
        # off where JSON goes on.
        return line.rstrip()[-1] not in "{[,:" and '"images"' not in line


_TEXTS: dict[str, Callable[[str], bool]] = {
    "jsonl": _is_jsonl,
    "json": lambda line: line[:1] in ("{", "["),
    "flickr": flickr.is_token_line,
    "csv": lambda line: table.delimiter_of(line) is not None,
}
