"""Contact sheets: queries and their hits in one image, a grid a query."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .errors import ImageError, VireoError
from .images import open_image
from .index.matches import Match
from .printing import printable

CELL = 160
_MARGIN = 12
_LINE = 26
_SMALL = 18
_ROW = CELL + 2 * _SMALL + _MARGIN
MAX_HITS = 100
"""Hits of one query that a sheet shows; more would make it too large to open."""

_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")


def contact_sheet(rows: Sequence[tuple[str, Sequence[Match]]]) -> Image.Image:
    """Draw a grid a query: its text above the hits; rank, score and caption or name below each.

    A hit whose file was deleted since it was indexed is drawn as a crossed cell. At most `MAX_HITS`
    hits of a query are drawn.

    Raises:
        VireoError: there is no font with Vietnamese letters.
    """
    columns = _columns(max((len(hits) for _, hits in rows), default=1))
    heights = [_LINE + _lines(len(hits), columns) * _ROW + _MARGIN for _, hits in rows]
    # Long queries need room even when there are few hits.
    width = max(_MARGIN + columns * (CELL + _MARGIN), 720)
    sheet = Image.new("RGB", (width, _MARGIN + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    title, small = _font(17), _font(14)
    top = _MARGIN
    for (query, hits), height in zip(rows, heights, strict=True):
        more = f"   (+ {len(hits) - MAX_HITS})" if len(hits) > MAX_HITS else ""
        fitted = _fitted(printable(query), title, width - 2 * _MARGIN - int(title.getlength(more)))
        draw.text((_MARGIN, top), fitted + more, "black", title)
        for number, match in enumerate(hits[:MAX_HITS]):
            line, column = divmod(number, columns)
            left = _MARGIN + column * (CELL + _MARGIN)
            upper = top + _LINE + line * _ROW
            _paste(sheet, draw, match.path, left, upper)
            below = upper + CELL + 4
            draw.text((left, below), _label(match), (90, 90, 90), small)
            name = printable(match.caption or Path(match.path).name)
            draw.text((left, below + _SMALL), _fitted(name, small, CELL), (90, 90, 90), small)
        top += height
    return sheet


def _columns(hits: int) -> int:
    """Choose the columns of a grid: one line of few hits, about a square of more."""
    return max(hits, 1) if hits <= 6 else min(8, max(5, math.isqrt(hits - 1) + 1))


def _lines(hits: int, columns: int) -> int:
    return -(-min(hits, MAX_HITS) // columns) or 1


def _label(match: Match) -> str:
    relevance = "" if match.relevance is None else f"   ({match.relevance:.2f})"
    return f"{match.rank}.  {match.score:.3f}{relevance}"


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Find a font with Vietnamese letters; Pillow's own has none."""
    candidates = list(_FONTS)
    if spec := importlib.util.find_spec("matplotlib"):
        origin = Path(str(spec.origin)).parent
        candidates.append(str(origin / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"))
    for name in candidates:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    raise VireoError(
        "no font with Vietnamese letters for the contact sheet; install DejaVu, Noto or Liberation "
        "Sans (Debian: apt install fonts-dejavu-core)"
    )


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, path: str, left: int, top: int) -> None:
    try:
        image = open_image(Path(path), least=CELL)
    except ImageError:
        box = (left, top, left + CELL, top + CELL)
        draw.rectangle(box, outline="gray")
        draw.line(box, fill="gray")
        return
    image.thumbnail((CELL, CELL))
    if max(image.size) < CELL:  # small images are shown as large as the others
        scale = CELL / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)))
    offset = (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2)
    sheet.paste(image, offset)


def _fitted(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
