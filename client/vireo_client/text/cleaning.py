"""Rules by which a text is cleaned before it is segmented: ours, and those of other libraries.

A bundle names its rule. A model that somebody else trained must see texts that are cleaned as in
its training, so its bundle names the rule of the library that trained it.
"""

from __future__ import annotations

import html
import re
import string
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from vireo_client.text.normalize import (
    NORMALIZATION,
    NORMALIZATION_2,
    STEPS,
    STEPS_2,
    normalize,
    normalize_2,
)


class Cleaning(NamedTuple):
    """A rule: its steps in short, and the function that applies them."""

    steps: tuple[str, ...]
    clean: Callable[[str], str]


NONE = "none"
SIGLIP = "siglip"
OPEN_CLIP = {"whitespace": "open-clip-whitespace", "lower": "open-clip-lower",
             "canonicalize": "open-clip-canonicalize"}  # fmt: skip
"""Our names of open_clip's rules, by open_clip's own names."""

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _nothing(text: str) -> str:
    return text


def _siglip(text: str) -> str:
    """Clean a text as `transformers.SiglipTokenizer.canonicalize_text` does.

    NFC comes first. SentencePiece composes letters itself, but the Rust tokenizers lose the second
    mark of a decomposed "ộ" while they do.
    """
    text = unicodedata.normalize("NFC", text)
    text = text.replace("▁", " ").lower().translate(_NO_PUNCTUATION)
    return re.sub(r"\s+", " ", text).strip()


def _repair(text: str) -> str:
    """Repair broken encodings and HTML entities, as open_clip's `basic_clean` does."""
    import ftfy  # here, because few bundles need it

    return html.unescape(html.unescape(ftfy.fix_text(text))).strip()


def _whitespace(text: str) -> str:
    return " ".join(_repair(text).split())


def _lower(text: str) -> str:
    return _whitespace(text).lower()


def _canonicalize(text: str) -> str:
    text = _repair(text).replace("_", " ").translate(_NO_PUNCTUATION).lower()
    return " ".join(text.split())


_REPAIR = ("ftfy.fix_text", "HTML entities")
RULES = {
    NORMALIZATION: Cleaning(STEPS, normalize),
    NORMALIZATION_2: Cleaning(STEPS_2, normalize_2),
    NONE: Cleaning((), _nothing),
    SIGLIP: Cleaning(("NFC", "lower case", "no ASCII punctuation", "single blanks"), _siglip),
    OPEN_CLIP["whitespace"]: Cleaning((*_REPAIR, "single blanks"), _whitespace),
    OPEN_CLIP["lower"]: Cleaning((*_REPAIR, "single blanks", "lower case"), _lower),
    OPEN_CLIP["canonicalize"]: Cleaning(
        (*_REPAIR, "no ASCII punctuation", "lower case", "single blanks"), _canonicalize
    ),
}
"""All rules, by the names that bundles record."""
