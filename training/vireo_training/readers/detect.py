"""The format of a file, by its first bytes, or by its name where these do not show it."""

from __future__ import annotations

import codecs
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
    for name, matches in _TEXTS.items():
        if matches(line):
            return name
    if columns:
        return "csv"
    raise DataError(
        f"{path}:1: of an unknown format; it begins {line[:60]!a}; name the format with "
        f"--format {', '.join(FORMATS)}, or the columns of a table without a header with --columns "
        "image,caption"
    )


def _first_line(head: bytes) -> str:
    lines = head.removeprefix(codecs.BOM_UTF8).lstrip().split(b"\n", 1)
    return lines[0].decode("utf-8", "replace").rstrip("\r")


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
