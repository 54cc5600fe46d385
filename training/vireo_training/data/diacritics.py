"""Vietnamese as it is typed without a Vietnamese keyboard."""

from __future__ import annotations

import unicodedata

_NO_BASE = str.maketrans("đĐ", "dD")


def strip_diacritics(text: str) -> str:
    """Drop tones, hooks, horns, breves and circumflexes, and the bar of đ: "Đường" to "Duong"."""
    decomposed = unicodedata.normalize("NFD", text.translate(_NO_BASE))
    bare = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return unicodedata.normalize("NFC", bare)
