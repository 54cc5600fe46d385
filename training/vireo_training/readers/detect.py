"""Which format a file has, told from its first bytes, and from its name where these do not show."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from vireo_client.errors import DataError

from . import flickr, table

FORMATS = ("jsonl", "coco", "evjvqa", "json", "flickr", "csv", "parquet", "webdataset")
"""What `--format` may say."""

_HEAD = 1 << 16


def detect(path: Path) -> str:
    """Returns one of `FORMATS`; "json" also stands for the layouts that only a parse tells apart.

    Raises:
        DataError: the file looks like none of them.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PAR1") or path.suffix.lower() == ".parquet":
        return "parquet"
    if ".tar" in [suffix.lower() for suffix in path.suffixes] or tarfile.is_tarfile(path):
        return "webdataset"
    line = _first_line(head)
    for name, matches in _TEXTS.items():
        if matches(line):
            return name
    raise DataError(
        f"{path}:1: not a format that is known; it begins {line[:60]!a}; say which it is with "
        f"--format {', '.join(FORMATS)}"
    )


def _first_line(head: bytes) -> str:
    text = head.decode("utf-8-sig", "replace")
    return next((line for line in text.splitlines() if line.strip()), "")


def _is_jsonl(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        # A whole document on one line has "images"; a pretty-printed one ends after its brace.
        return "images" not in json.loads(line)
    except ValueError:
        # Cut at the end of what was read, or damaged: a first line that goes on past the brace
        # and names no list is a broken record of many.
        return line.strip() != "{" and '"images"' not in line and '"annotations"' not in line


_TEXTS: dict[str, Callable[[str], bool]] = {
    "jsonl": _is_jsonl,
    "json": lambda line: line.lstrip()[:1] in ("{", "["),
    "flickr": flickr.is_token_line,
    "csv": lambda line: table.delimiter_of(line) is not None,
}
