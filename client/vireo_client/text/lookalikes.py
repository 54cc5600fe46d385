"""Maps what merely looks like a Vietnamese letter to the letter meant.

Each group is found in real text, and a tokenizer knows none of it:

- Letters of other alphabets for "đ": the Icelandic eth and the African d have the same capital as
  "Đ", and old keyboards and fonts offer them for it; "d" with a combining stroke is a third way.
- Full-width and mathematical letters, from East Asian keyboards and from styled posts.
- Cyrillic and Greek letters, from mixed keyboards, from recognised print and from spam. Only a word
  that has a Latin letter too is mapped, and only if every other letter of it has a look-alike:
  "сá" is Vietnamese, "мир" and "kΩ" are not.
- Marks in an order that NFC does not compose ("a", acute, circumflex), the Greek circumflex for
  the tilde, and an "i" without its dot, or with a second one, under a tone mark.

Unicode's own table of confusables has thousands of pairs, such as "rn" and "m". This one keeps to
single letters that are meant for each other.
"""

from __future__ import annotations

import re
import unicodedata


def _letters_meant() -> dict[int, str]:
    """Return the styled letters: those that Unicode itself decomposes to one ASCII letter."""
    styled = (*range(0xFF21, 0xFF5B), *range(0x1D400, 0x1D7CC), *range(0x2100, 0x2150))
    plain = {code: unicodedata.normalize("NFKC", chr(code)) for code in styled}
    return {
        code: to for code, to in plain.items() if len(to) == 1 and to.isascii() and to.isalpha()
    }


_ANYWHERE: dict[int, str | int] = {**_letters_meant(), **str.maketrans("ÐðƉɖ", "ĐđĐđ")}

_CYRILLIC = str.maketrans(
    "АВЕЅІЈКМНОРСТУҮХԚԜѴаеѕіјӏкморстуүхһԁԛԝѵ",
    "ABESIJKMHOPCTYYXQWVaesijlkmopctyyxhdqwv",
)
_GREEK = str.maketrans("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαικνορτυχ", "ABEZHIKMNOPTYXaikvoptux")
_GREEK_TILDE = {0x0342: "\u0303"}
_IN_A_LATIN_WORD: dict[int, str | int] = {
    **_CYRILLIC,
    **_GREEK,
    **_GREEK_TILDE,
    **str.maketrans("ɑɡ", "ag"),
}

_TONES = "\u0300\u0301\u0303\u0309"
_WORD = re.compile(r"(?:[^\W\d_]|[\u0300-\u036f])+")
_LATIN = re.compile("[A-Za-zĐđ]")
_OTHER = re.compile(r"[^\Wa-zA-ZĐđ]")
_NO_DOT = re.compile(f"ı(?=[{_TONES}\u0307\u0323])")
_SECOND_DOT = re.compile("i(\u0323?)\u0307+")
# Not in a text that is struck out, whose every letter has the stroke.
_STROKE = re.compile(r"(?<![\u0335\u0336])([dD])[\u0335\u0336](?!\w[\u0335\u0336])")
_TONE_FIRST = re.compile(f"([AEOaeo]\u0323?)([{_TONES}])(\u0302)|([Aa]\u0323?)([{_TONES}])(\u0306)")

# The characters of which a text must have one for anything to change; as ranges, which are fast.
_CANDIDATE = re.compile(
    "[ÐðƉɖıɑɡ\u0300-\u036f\u0370-\u052f\u2100-\u214f\uff21-\uff5a\U0001d400-\U0001d7cb]"
)


def map_lookalikes(text: str) -> str:
    """Return a text with the letters meant; in NFC if it had any look-alike.

    Mapping twice changes nothing.
    """
    if _CANDIDATE.search(text) is None:
        return text
    text = unicodedata.normalize("NFD", text.translate(_ANYWHERE))
    text = _NO_DOT.sub("i", text)
    text = _WORD.sub(_latin, text)
    text = _SECOND_DOT.sub(r"i\1", text)
    text = _STROKE.sub(lambda found: "đ" if found[1] == "d" else "Đ", text)
    text = _TONE_FIRST.sub(r"\1\4\3\6\2\5", text)
    return unicodedata.normalize("NFC", text)


def _latin(found: re.Match[str]) -> str:
    """Return a word in Latin letters, if it has one and look-alikes for the rest."""
    word = found[0]
    if _LATIN.search(word) is None:
        return word
    if any(ord(letter) not in _IN_A_LATIN_WORD for letter in _OTHER.findall(word)):
        return word
    return word.translate(_IN_A_LATIN_WORD)
