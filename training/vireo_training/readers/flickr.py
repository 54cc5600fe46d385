"""Flickr30k's token file: `name.jpg#0<TAB>caption` a line.

The other shape of Flickr30k, `image_name| comment_number| comment`, is a table: see `table`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vireo_client.captions import Described, Skip

_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)", re.DOTALL)


def is_token_line(line: str) -> bool:
    """Return whether `line` looks like one of a token file."""
    return _LINE.match(line) is not None


def read(path: Path) -> Iterator[Described | Skip]:
    """Yield one item a line; empty lines are passed over."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                line = raw.decode("utf-8-sig").rstrip("\r\n")
            except UnicodeDecodeError:
                yield Skip(where, "not UTF-8")
                continue
            match = _LINE.fullmatch(line)
            if match:
                yield Described(where, match["image"].strip(), [match["caption"]])
            elif line.strip():
                yield Skip(where, "not name.jpg#0<TAB>caption")
