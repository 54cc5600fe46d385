"""The values of images' fields: their types, and how SQLite stores them."""

from __future__ import annotations

import datetime
import math
import unicodedata

import numpy as np

from ..errors import DataError
from .dates import is_moment, moment_of, parse_moment

Value = str | int | float | bool | datetime.date | None
"""A value of a field; `datetime.datetime` is a `datetime.date` too."""

TEXT, INTEGER, NUMBER, BOOLEAN, DATE = "text", "integer", "number", "boolean", "date"
TYPES = (TEXT, INTEGER, NUMBER, BOOLEAN, DATE)

_INT64 = 2**63


def type_of(name: str, value: Value, where: str) -> str:
    """Return the type of a value, which is not None.

    Args:
        name: the column's, for errors.
        value: the value.
        where: the row's name, for errors.

    Raises:
        DataError: the value is of none of `TYPES`, or cannot be stored.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise DataError(
                f"{where}: column {name!r}: {shown(value)} needs more than 64 bits; write it as "
                "text"
            )
        return INTEGER
    if isinstance(value, float):
        if not math.isfinite(value):
            raise DataError(f"{where}: column {name!r}: {value} is no number; write null instead")
        return NUMBER
    if isinstance(value, datetime.date):
        return DATE
    if isinstance(value, str):
        check_text(value, f"{where}: column {name!r}")
        return DATE if is_moment(value) else TEXT
    raise DataError(
        f"{where}: column {name!r}: {shown(value)} is {_kind(value)}; write a text, a number, "
        "true or false, a date, or null"
    )


def check_text(text: str, what: str) -> None:
    """Check that SQLite can store a text.

    Raises:
        DataError: it holds NUL characters or lone surrogates; the message begins with `what`.
    """
    if "\0" in text:
        raise DataError(f"{what}: {shown(text)} holds a NUL character; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what}: {shown(text)} is not valid Unicode; decode it anew") from None


def stored_form(value: Value, type_: str) -> str | int | float:
    """Return a value, which is not None and fits a column of a type, as SQLite stores it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime.date):
        return moment_of(value)
    if isinstance(value, str):
        return parse_moment(value) if type_ == DATE else unicodedata.normalize("NFC", value)
    assert value is not None
    return int(value) if isinstance(value, bool) else value


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", tuple: "a list", bytes: "bytes"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def shown(value: object) -> str:
    """Return a value for an error message: short, and without what a terminal would obey."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
