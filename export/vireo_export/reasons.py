"""The short form of a library's error, for our own messages."""

from __future__ import annotations


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class name if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)
