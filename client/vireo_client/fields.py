"""The names under which files hold images and captions: `file_name`, `image`, `caption_1`, ..."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

IMAGE_NAMES = (
    "image",
    "file_name",
    "filename",
    "image_name",
    "image_path",
    "filepath",
    "path",
    "img",
    "ảnh",
    "hình",
    "hình_ảnh",
    "tên_ảnh",
    "tên_tệp",
    "tên_file",
)
"""In order of preference, in lower case; a blank stands for "_" as well."""

# `comment` is Flickr30k's word, `raw` and `sentences` are what its copies use. A number may follow:
# `caption_0`. `comment_number` does not match.
_CAPTION = re.compile(
    r"(captions?|comments?|sentences?|texts?|raw|chú_thích|mô_tả|câu_mô_tả|câu)(_?\d+)?"
)


def image_field(names: Sequence[str]) -> str | None:
    """Return which of `names` holds the image, or None."""
    folded = {_folded(name): name for name in reversed(names)}
    return next((folded[name] for name in IMAGE_NAMES if name in folded), None)


def caption_fields(names: Sequence[str]) -> list[str]:
    """Return those of `names` that hold captions, in their order.

    A file that has both `caption` and `text` calls something else text: the fields of the first
    word count, in the order below.
    """
    by_word: dict[str, list[str]] = {}
    for name in names:
        match = _CAPTION.fullmatch(_folded(name))
        if match:
            by_word.setdefault(match[1].rstrip("s"), []).append(name)
    for word in (
        "caption", "comment", "sentence", "text", "raw", "chú_thích", "mô_tả", "câu_mô_tả", "câu",
    ):  # fmt: skip
        if word in by_word:
            return by_word[word]
    return []


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().lower()).replace(" ", "_")


def split_field(names: Sequence[str]) -> str | None:
    """Return which of `names` holds the split, or None."""
    return next((name for name in names if name.strip().lower() == "split"), None)


def split_named(value: object) -> str | None:
    """Return "train", "validation" or "test" for the names that files use; None for others.

    Karpathy's `restval`, the rest of COCO's validation images, is for training.
    """
    return _SPLITS.get(value.strip().lower()) if isinstance(value, str) else None


_SPLITS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def described(record: Mapping[str, object]) -> tuple[str, list[object], object]:
    """Return image, captions and split (None without one) of one JSON object.

    Raises:
        ValueError: it has no field for image or captions, or the image is no path.
    """
    names = [str(name) for name in record]
    return image_name(record, names), captions_of(record, names), split_of(record)


def split_of(record: Mapping[str, object]) -> object:
    """Return the value of the split's field as it is written; None without one."""
    field = split_field([str(name) for name in record])
    return record[field] if field is not None else None


def image_name(record: Mapping[str, object], names: Sequence[str]) -> str:
    """Return the path that the image's field holds.

    Raises:
        ValueError: there is none.
    """
    field = image_field(names)
    if field is None:
        raise ValueError(f"names no image (looked for {', '.join(IMAGE_NAMES)})")
    name = checked_path(record[field], field)
    # Karpathy's files keep the folder apart: "filename": "1.jpg", "filepath": "val2014".
    folder = record.get("filepath")
    if field != "filepath" and isinstance(folder, str) and folder and not _names_file(folder):
        return str(PurePosixPath(folder) / name)
    return name


def _names_file(path: str) -> bool:
    return PurePosixPath(path).suffix != ""


def checked_path(value: object, field: str) -> str:
    """Return `value` if it can be a path.

    Raises:
        ValueError: it cannot; the message names `field`.
    """
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f'"{field}" must be the path of an image')
    return value


def captions_of(record: Mapping[str, object], names: Sequence[str]) -> list[object]:
    """Return the values of the caption fields; a list in one of them counts as several captions.

    An object in such a list (`"sentences": [{"raw": "..."}]`) stands for its own captions. Fields
    that are null are passed over.

    Raises:
        ValueError: there is no such field, or nothing in it.
    """
    texts = [text for field in caption_fields(names) for text in _flat(record[field])]
    if not texts:
        raise ValueError("has no caption")
    return texts


def _flat(value: object) -> list[object]:
    if value is None:
        return []
    texts: list[object] = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            inner = [item[name] for name in caption_fields([*map(str, item)])]
            for text in inner or [item]:
                texts += text if isinstance(text, list) else [text]
        else:
            texts.append(item)
    return texts


def joined_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of parsed JSON (`object_pairs_hook`); values of a repeated key are a list.

    Python keeps the last one: `{"a.jpg": "một", "a.jpg": "hai"}` would lose a caption unsaid.
    """
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    values: dict[str, list[object]] = {}
    for key, value in pairs:
        values.setdefault(key, []).append(value)
    for key, several in values.items():
        if len(several) > 1:
            record[key] = [item for v in several for item in (v if isinstance(v, list) else [v])]
    return record


def captions_in_cell(text: str) -> list[object]:
    """Return the captions that a table's cell holds: a list of texts, or the cell as it is.

    Lists come as JSON, as Python prints them, and as NumPy does, without commas. A caption that
    only begins with a bracket is a caption.
    """
    listed = text.strip()
    if not (listed.startswith("[") and listed.endswith("]")):
        return [text]
    for parse in (json.loads, _python_strings, _python_list):
        try:
            values = parse(listed)
        except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
            continue
        if not values:
            return [""]
        if any(isinstance(value, (str, dict)) for value in values):
            return _flat(values)
    return [text]


def _python_strings(text: str) -> list[object]:
    """Read string literals one by one: Python itself joins those that no comma parts."""
    blank = (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER)
    tokens = [
        t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in blank
    ]
    inner = [token for token in tokens[1:-1] if token.string != ","]
    if not inner or any(token.type != tokenize.STRING for token in inner):
        raise ValueError("not a list of strings")
    return [_literal(token.string) for token in inner]


def _python_list(text: str) -> list[object]:
    value = _literal(text)
    if not isinstance(value, list):
        raise ValueError("not a list")
    return value


def _literal(text: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a stray backslash in a caption is no fault of the user's
        return ast.literal_eval(text)
