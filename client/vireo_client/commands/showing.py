"""How the commands show matches: lines for a person, JSON for a program, a sheet to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..index.matches import Matches
from ..printing import json_line, say


def lines_of(matches: Matches) -> Iterator[str]:
    """Yield a line a hit: rank, score, relevance where the index knows it, caption and path."""
    for match in matches:
        hit = f"{match.caption}  ({match.path})" if match.caption else match.path
        relevance = "" if match.relevance is None else f"  {match.relevance:4.2f}"
        yield f"{match.rank:>3}  {match.score:6.3f}{relevance}  {hit}"


def show(matches: Matches) -> None:
    """Print the hits; that there are none goes to standard error."""
    if len(matches):
        say(*lines_of(matches))
    else:
        say("nothing found", err=True)


def answer_line(query: str, matches: Matches, **more: Any) -> str:
    """Return the JSON line of one query."""
    return json_line({"query": query, **more, "matches": matches.to_dicts()})


def can_draw(path: Path) -> bool:
    """Return whether Pillow writes files of such a name."""
    from PIL import Image

    # Of some formats, such as .psd, Pillow only reads the files.
    return Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE


def draw_sheet(path: Path, query: str, matches: Matches) -> None:
    """Draw the hits of one query into an image file."""
    from ..sheet import contact_sheet

    contact_sheet([(query, matches)]).save(path)
