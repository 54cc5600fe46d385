"""Dates as they are stored and as filters give them: ISO 8601 text, compared as text.

A stored date is a moment on the clock of the place where it was read: `2024-05-17T08:30:00`, with
the place's distance to UTC behind it where that is known (`+07:00`). Filters compare the clock and
not the distance: a photo taken at 8 in Hà Nội and one taken at 8 in Paris were both taken at 8. All
stored dates have the same form up to the second, so that the order of the texts is that of the
clocks, and a shorter text (`2024-05`) is the beginning of every date in that month.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import NamedTuple

from ..errors import DataError

_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?)?)?"
)
_BEHIND = "~"
"""Sorts behind every character that a stored date holds."""


class Period(NamedTuple):
    """The time that a date of a filter means: a whole year for `2024`, a second at the least."""

    first: str
    """What all dates of this time begin with: behind all dates before, and not behind any of it."""
    end: str
    """Behind all dates of this time, and before all later ones."""


def parse_period(text: str) -> Period:
    """Return the time that a date means: `2024`, `2024-05`, `2024-05-17`, `2024-05-17T08:30`.

    Raises:
        DataError: the text is no date, or names a distance to UTC.
    """
    found = _match(text)
    if found[8]:
        raise DataError(
            f"{text!r}: dates are compared by the clock of their place; leave out {found[8]!r}"
        )
    day = "-".join(part for part in found.group(1, 2, 3) if part)
    time = ":".join(part for part in found.group(4, 5, 6) if part)
    first = f"{day}T{time}" if time else day
    return Period(first, first + _BEHIND)


def parse_moment(text: str) -> str:
    """Return a date as it is stored; a day without a time means its midnight.

    Raises:
        DataError: the text is no date of at least a day.
    """
    found = _match(text)
    if not found[3]:
        raise DataError(f"{text!r} is no date; write it like 2024-05-17 or 2024-05-17T08:30:00")
    zone = found[8] or ""
    if zone == "Z":
        zone = "+00:00"
    elif zone:
        zone = f"{zone[:3]}:{zone[-2:]}"
    hour, minute, second = (found[part] or "00" for part in (4, 5, 6))
    return f"{found[1]}-{found[2]}-{found[3]}T{hour}:{minute}:{second}{found[7] or ''}{zone}"


def is_moment(text: str) -> bool:
    """Return whether a text is a date of at least a day."""
    if _DATE.fullmatch(text) is None:  # most texts: without the cost of an error
        return False
    try:
        parse_moment(text)
    except DataError:
        return False
    return True


def moment_of(value: datetime.date) -> str:
    """Return a `date` or `datetime` as it is stored."""
    return parse_moment(value.isoformat())


def moment_at(seconds: float) -> str | None:
    """Return seconds since 1970 as they are stored: in UTC, without what is less than a second.

    A file may have a time that no calendar has, such as the year 300000: that is None.
    """
    try:
        moment = datetime.datetime.fromtimestamp(math.floor(seconds), datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat()  # as `moment_of` writes it, and many times faster


def _match(text: str) -> re.Match[str]:
    found = _DATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        parts = (int(found[part] or least) for part, least in enumerate((1, 1, 1, 0, 0, 0), 1))
        datetime.datetime(*parts)  # type: ignore[arg-type]  # raises for the 30th of February
        if found[8] and found[8] != "Z" and (int(found[8][1:3]) > 14 or int(found[8][-2:]) > 59):
            raise ValueError
    except ValueError:
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise DataError(
            f"{shown!r} is no date; write it like 2024, 2024-05, 2024-05-17 or 2024-05-17T08:30:00"
        ) from None
    return found
