"""VnCoreNLP's tokenizer and sentence splitter, as its answers show them.

Every rule here was inferred from reference answers; nothing of VnCoreNLP's source was read. Chunks
between white space (ASCII white space only: a no-break space is an ordinary character) are cut
into tokens, and tokens into sentences.
"""

from __future__ import annotations

import re

_LETTER = r"[^\W\d_]"
_CONSONANTS = "bcdđghklmnpqrstvx"
_NUMBER = r"[0-9]+(?:[.,][0-9]+)*%?"

# The kinds of token inside a chunk, tried in this order at each place. Characters of no kind
# (dashes, degree signs, zero-width spaces, emoji, vulgar fractions) stay with the letters beside
# them: "—gạch", "°C", "m²".
_TOKEN = re.compile(
    "|".join(
        (
            r"(?:https?|ftp)://\S*[^\s.,!?;:\"')\]}]",
            r"www\.[^\s\"]*[^\s.,!?;:\"')\]}]",
            r"[\w.+-]{1,64}@\w+(?:[.-]\w+)+",
            # Abbreviations end in their full stop: titles ("TP."), a capital and consonants that
            # make no syllable ("Mr.", "Th."), single capitals and their rows ("A.", "U.S.A."). The
            # city's title is cut from what follows it ("TP.HCM"), the others are not ("Th.S").
            r"(?<!\w)(?:TP|Tp)\.",
            rf"(?<!\w)(?:TS|THS|GS|PGS|KTS|[A-ZĐ][{_CONSONANTS}]{{1,2}})\.(?!{_LETTER})",
            rf"(?<!\w)(?:[A-ZĐ]\.)+(?!{_LETTER})",
            # Hours, alone or as a clock: "7h30", "10:30". Dates, ranges and sums: "20/11/2026"
            r"[0-9]{1,2}h[0-9]{2}(?!\w)",
            rf"[$€£¥₫]?{_NUMBER}(?:[-+*/:]{_NUMBER})*(?![^\W_]|[.,][0-9])[$€£¥₫]?",
            # Letters and digits in one word: "A5", "6E", "ABC123"
            rf"(?=[^\W_]*[0-9])(?=[^\W_]*{_LETTER})[^\W_]+(?![^\W_]|[.,][0-9])",
            rf"[$€£¥₫]?{_NUMBER}(?:[-+*/:]{_NUMBER})*",
            r"km/h|m/s",
            # Words joined by hyphens or full stops: "Wi-Fi", "Th.S", "tennis.q", "Covid-19"
            rf"{_LETTER}+(?:[-.]{_LETTER}+)+",
            rf"{_LETTER}+-[0-9]+(?!\w)",
            r"\.{2,}",
            r"[][!\"#$%&'()*+,./:;<=>?@\\^_`{|}~‘’“”«»…-]",
            r"[^][0-9!\"#$%&'()*+,./:;<=>?@\\^_`{|}~‘’“”«»…-]+",
        )
    )
)
_ASCII_SPACE = re.compile(r"[ \t\n\x0b\f\r]+")

# A sentence may end after these tokens ...
_ENDS = frozenset((".", "!", "?", "..."))
# ... and goes on all the same before these.
_GOES_ON = frozenset((",", ")", "]", "}", "”", "’"))


def tokenize(text: str) -> list[str]:
    """Cut a text into tokens: words' syllables, numbers, punctuation.

    Args:
        text: NFC text with tones placed.

    Returns:
        The tokens in order; their concatenation is the text without its ASCII white space.
    """
    tokens: list[str] = []
    for chunk in _ASCII_SPACE.split(text):
        if chunk.isalpha():
            tokens.append(chunk)
        elif chunk:
            body = chunk[:-1]
            # Most other chunks are a word before a comma or full stop. A short capitalised one
            # may be a title ("TP.", "Mr."), for which the expression decides.
            if chunk[-1] in ".,;:" and body.isalpha() and (len(body) > 3 or body.islower()):
                tokens.append(body)
                tokens.append(chunk[-1])
            else:
                tokens += _TOKEN.findall(chunk)
    return tokens


def split_sentences(tokens: list[str]) -> list[list[str]]:
    """Split tokens into sentences.

    A sentence ends after a full stop, an exclamation or question mark or an ellipsis, unless it
    goes on: with a token that begins with a lower-case letter or a digit, with a comma or a
    closing bracket, or with the quotation mark that closes one opened in it. A colon ends one if
    the token after next is a comma ("như : tivi , cassette").

    Args:
        tokens: The result of `tokenize`.

    Returns:
        The sentences, none of them empty; `[]` without tokens.
    """
    sentences: list[list[str]] = []
    start = 0
    quote_open = False
    last = len(tokens) - 1
    for at, token in enumerate(tokens):
        if at == last:
            break
        if token == '"':
            quote_open = not quote_open
        elif token in _ENDS:
            following = tokens[at + 1]
            first = following[0]
            if first.islower() or first.isdigit() or following in _GOES_ON:
                continue
            if following == '"' and quote_open:
                continue
            sentences.append(tokens[start : at + 1])
            start = at + 1
            quote_open = False
        elif token == ":" and at + 2 <= last and tokens[at + 2] == ",":
            sentences.append(tokens[start : at + 1])
            start = at + 1
            quote_open = False
    if tokens:
        sentences.append(tokens[start:])
    return sentences
