"""The names under which files hold images and captions: `file_name`, `image`, `caption_1`, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

IMAGE_NAMES = (
    "image",
    "file_name",
    "filename",
    "image_name",
    "image_path",
    "filepath",
    "path",
    "img",
)
"""In order of preference, in lower case."""

# `comment` is Flickr30k's word, `raw` and `sentences` are what its copies use. A number may follow:
# `caption_0`. `comment_number` does not match.
_CAPTION = re.compile(r"(captions?|comments?|sentences?|texts?|raw)([ _]?\d+)?")


def image_field(names: Sequence[str]) -> str | None:
    """Return which of `names` holds the image, or None."""
    folded = {name.strip().lower(): name for name in reversed(names)}
    return next((folded[name] for name in IMAGE_NAMES if name in folded), None)


def caption_fields(names: Sequence[str]) -> list[str]:
    """Return those of `names` that hold captions, in their order.

    A file that has both `caption` and `text` calls something else text: the fields of the first
    word count, in the order below.
    """
    by_word: dict[str, list[str]] = {}
    for name in names:
        match = _CAPTION.fullmatch(name.strip().lower())
        if match:
            by_word.setdefault(match[1].rstrip("s"), []).append(name)
    for word in ("caption", "comment", "sentence", "text", "raw"):
        if word in by_word:
            return by_word[word]
    return []


def described(record: Mapping[str, object]) -> tuple[str, list[object]]:
    """Return image and captions of one JSON object.

    Raises:
        ValueError: it has no field for either, or the image is no path.
    """
    names = [str(name) for name in record]
    return image_name(record, names), captions_of(record, names)


def image_name(record: Mapping[str, object], names: Sequence[str]) -> str:
    """Return the path that the image's field holds.

    Raises:
        ValueError: there is none.
    """
    field = image_field(names)
    if field is None:
        raise ValueError(f"names no image (looked for {', '.join(IMAGE_NAMES)})")
    return checked_path(record[field], field)


def checked_path(value: object, field: str) -> str:
    """Return `value` if it can be a path.

    Raises:
        ValueError: it cannot; the message names `field`.
    """
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f'"{field}" must be the path of an image')
    return value.strip()


def captions_of(record: Mapping[str, object], names: Sequence[str]) -> list[object]:
    """Return the values of the caption fields; a list in one of them counts as several captions.

    Raises:
        ValueError: there is no such field.
    """
    fields = caption_fields(names)
    if not fields:
        raise ValueError("has no caption")
    texts: list[object] = []
    for field in fields:
        value = record[field]
        texts += value if isinstance(value, list) else [value]
    return texts
