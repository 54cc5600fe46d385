"""Normalises a text before it is segmented: texts that look the same get one spelling.

The steps, in order:

1. Characters that are not text: lone surrogates (halves of a character, from a broken decoder)
   become U+FFFD; control characters, zero-width characters, joiners, direction marks and soft
   hyphens vanish; hyphens and minus signs that no keyboard has become "-", low and reversed
   quotes their usual form.
2. White space: every run of it, no-break and ideographic spaces and line ends included, becomes
   one blank; none is left at either end.
3. NFC: the segmenters and PhoBERT know composed Vietnamese letters only.
4. Look-alikes: "ð", a Cyrillic "о" in a Latin word and their like become the letter meant
   (`lookalikes.py`). The older rule `vi-nfc-tones-2` has all steps but this one.
5. Tone placement: "hòa" becomes "hoà", as VnCoreNLP writes it (`vncorenlp/toned.py`).

The curly quotes, the two usual dashes and the ellipsis stay: they are ordinary in Vietnamese text,
and both VnCoreNLP and PhoBERT's vocabulary distinguish them from their ASCII look-alikes. Case,
emoji and missing diacritics stay too. Normalising twice changes nothing.
"""

from __future__ import annotations

import re
import unicodedata

from vireo_client.text.lookalikes import map_lookalikes
from vireo_client.text.vncorenlp.toned import place_tones

NORMALIZATION = "vi-nfc-tones-3"
"""The name of the steps above, which a bundle records. Other steps need another name."""

NORMALIZATION_2 = "vi-nfc-tones-2"
"""The rule of older bundles, which are served as they were made: without step 4."""

STEPS_2 = (
    "surrogates to U+FFFD; controls and zero-width characters removed; odd dashes, quotes folded",
    "white space to single blanks",
    "NFC",
    "tone placement oà, oè, uỳ",
)
STEPS = (*STEPS_2[:3], "look-alikes to the Vietnamese letter meant", *STEPS_2[3:])
"""The steps in short, for people who read a bundle."""

_FOLD: dict[int, str | None] = {
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    # Controls, then zero-width characters and marks of direction.
    **dict.fromkeys((*range(0x20), *range(0x7F, 0xA0))),
    **dict.fromkeys((0xAD, 0x061C, 0x180E, 0xFEFF)),
    **dict.fromkeys((*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))),
    # Hyphen, no-break hyphen, figure dash, minus, small and full-width hyphen.
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2212, 0xFE63, 0xFF0D), "-"),
    **dict.fromkeys((0x201E, 0x201F), "“"),
    **dict.fromkeys((0x201A, 0x201B), "‘"),
}
_SPACES = (
    *range(0x09, 0x0E), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B),
    0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
)  # fmt: skip
_FOLD.update(dict.fromkeys(_SPACES, " "))

# Matches a text that has anything to fold. Most texts have not, and pass with this one search.
_CLASS = "".join(re.escape(chr(code)) for code in _FOLD if chr(code) != " ")
_ODD = re.compile(f"[{_CLASS}]|  |^ | $")


def normalize(text: str) -> str:
    """Return a text in the one spelling that the segmenters and tokenizers are used with.

    Args:
        text: Any string, of any length, lone surrogates included.

    Returns:
        The text after the steps above: valid Unicode in NFC, single blanks, perhaps empty.
    """
    text = _fold(text)
    if not text.isascii():
        text = place_tones(map_lookalikes(unicodedata.normalize("NFC", text)))
    return text


def normalize_2(text: str) -> str:
    """Return a text as `normalize` does, but with its look-alikes as they are."""
    text = _fold(text)
    if not text.isascii():
        text = place_tones(unicodedata.normalize("NFC", text))
    return text


def _fold(text: str) -> str:
    if _ODD.search(text) is not None:
        text = " ".join(text.translate(_FOLD).split())
    return text
