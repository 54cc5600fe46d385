"""Contact sheets: queries and their hits in one image."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .errors import ImageError, VireoError
from .images import open_image
from .index.matches import Match

CELL = 160
_MARGIN = 12
_LINE = 26
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")


def contact_sheet(rows: Sequence[tuple[str, Sequence[Match]]]) -> Image.Image:
    """Draw one row a query: its text above the hits, each with rank and score below.

    A hit whose file was deleted since it was indexed is drawn as a crossed cell.

    Raises:
        VireoError: there is no font with Vietnamese letters.
    """
    columns = max((len(matches) for _, matches in rows), default=1) or 1
    height = _LINE + CELL + _LINE + _MARGIN
    # Long queries need room even when there are few hits.
    width = max(_MARGIN + columns * (CELL + _MARGIN), 720)
    sheet = Image.new("RGB", (width, _MARGIN + height * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    title, small = _font(17), _font(14)
    for row, (query, matches) in enumerate(rows):
        top = _MARGIN + row * height
        draw.text((_MARGIN, top), _fitted(query, title, width - 2 * _MARGIN), "black", title)
        for column, match in enumerate(matches):
            left = _MARGIN + column * (CELL + _MARGIN)
            _paste(sheet, draw, match.path, left, top + _LINE)
            label = f"{match.rank}.  {match.score:.3f}"
            draw.text((left, top + _LINE + CELL + 4), label, (90, 90, 90), small)
    return sheet


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
        image = open_image(Path(path))
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
