"""Text that a terminal shows as it is: names from elsewhere neither steer it nor become markup."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

# What moves the cursor, colours, clears or rings (C0 and C1); the other ends of lines; what turns
# the direction of writing, so that one name looks like another; and the halves of surrogate pairs,
# which stand for the bytes of a file name that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    r"""Return a text on one line, what a terminal would act on written as `\x1b` is.

    Letters, spaces of all widths and emoji stay as they are.
    """
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], str(text))


def printable_lines(text: object) -> str:
    """As `printable`, but keep the ends of lines."""
    return "\n".join(printable(line) for line in str(text).split("\n"))


def say(*lines: object, err: bool = False) -> None:
    """Print lines for a person, each as `printable`; all that a command answers goes through here.

    Args:
        lines: what is a line here stays one, whatever is in it.
        err: whether they go to standard error.
    """
    print(*map(printable, lines), sep="\n", file=sys.stderr if err else sys.stdout, flush=True)


def json_line(value: Any) -> str:
    r"""Write a value as a line of JSON: letters stay, what `printable` escapes becomes `\u001b`."""
    # Between its strings, JSON on one line holds none of these characters.
    return _UNSAFE.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def error_text(error: Exception) -> str:
    """Return the message of an error; the system's own name the file first."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


class PrintableFormatter(logging.Formatter):
    """Formats log records as `printable_lines` does."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text, safe to print."""
        return printable_lines(super().format(record))
