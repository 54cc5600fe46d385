"""Flickr30k's token file: `name.jpg#0<TAB>caption` a line, or `name.jpg<TAB>caption`.

The other shape of Flickr30k, `image_name| comment_number| comment`, is a table: see `table`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vireo_client.captions import Described, Skip
from vireo_client.images import SUFFIXES

# Without the number only one tab: a line with more is a row of a table.
_LINE = re.compile(
    r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)|(?P<plain>[^\t]+)\t(?P<text>[^\t]*)", re.DOTALL
)


def is_token_line(line: str) -> bool:
    """Return whether `line` looks like one of a token file."""
    match = _LINE.fullmatch(line)
    if match is None:
        return False
    # Without a number a header looks alike ("image<TAB>caption"): the suffix tells them apart.
    return match["plain"] is None or PurePosixPath(match["plain"]).suffix.lower() in SUFFIXES


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
                image, caption = match["image"] or match["plain"], match["caption"] or match["text"]
                yield Described(where, image.strip(), [caption or ""])
            elif line.strip():
                yield Skip(where, "not name.jpg#0<TAB>caption or name.jpg<TAB>caption")
