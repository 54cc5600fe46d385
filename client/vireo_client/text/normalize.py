"""What happens to a caption before it is segmented."""

from __future__ import annotations

import unicodedata

NORMALIZATION = "nfc-1"
"""Name of the steps below, recorded in a bundle; another name is another text path."""


def normalize(text: str) -> str:
    """Composes the text (NFC) and turns every run of white space into one blank.

    The segmenters know composed Vietnamese letters only, and `str.split` takes no-break spaces and
    line ends for what they are. Lone surrogates (half a character, from a broken decoder) become
    the replacement character: no tokenizer takes them.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(unicodedata.normalize("NFC", text).split())
