"""Word segmentation as VnCoreNLP answers it: longest matching, then ripple-down rules.

Nguyen et al., "A Fast and Accurate Vietnamese Word Segmenter", LREC 2018: every syllable gets a
tag, B where a word begins and I inside one, first from the longest match in a lexicon (section
2.1), then corrected by a tree of rules over the five syllables and tags around it (section 2.2).
The paper leaves names and the width of a match open; comments say how they are decided here.
"""

from __future__ import annotations

from pathlib import Path

from vireo_client.text.vncorenlp import names
from vireo_client.text.vncorenlp.java import read_string_set
from vireo_client.text.vncorenlp.rules import conclude, read_rules
from vireo_client.text.vncorenlp.tokenizer import split_sentences, tokenize
from vireo_client.text.vncorenlp.toned import place_tones

LEXICON_FILE = "vi-vocab"
RULES_FILE = "wordsegmenter.rdr"

# The longest word, and the longest run of capitals taken for a name, in syllables.
_MAX_SYLLABLES = 4
# A capitalised syllable that is one of these begins no name.
_NOT_NAMES = names.OPENERS | names.SHORT_NAMES
# Tokens that stand for round brackets in the Vietnamese treebank: they end a name.
_BRACKETS = frozenset(("LBKT", "RBKT"))


class VnCoreNLPSegmenter:
    """VnCoreNLP's word segmenter over its own model files. Immutable: threads may share it."""

    name = "vncorenlp"

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Args:
            folder: Holds `vi-vocab` and `wordsegmenter.rdr`.

        Raises:
            SegmenterError: If a file is missing or broken.
        """
        self._folder = folder
        lexicon = read_string_set(folder / LEXICON_FILE)
        self._words = frozenset(lexicon) | names.PLACES | names.COUNTRIES
        self._widest = _widest_by_pair(self._words)
        self._rules = read_rules(folder / RULES_FILE)
        self._gates = {tag: level.gate() for tag, level in self._rules.items()}

    def files(self) -> dict[str, Path]:
        """Return the model files that a bundle must carry, by file name."""
        return {name: self._folder / name for name in (LEXICON_FILE, RULES_FILE)}

    def segment(self, text: str) -> list[str]:
        """Segment a text.

        Args:
            text: NFC text.

        Returns:
            Its sentences: the syllables of a word joined by `_`, words parted by one space; `[]`
            for a text without any token.
        """
        tokens = tokenize(place_tones(text))
        return [self._segment_sentence(sentence) for sentence in split_sentences(tokens)]

    def _segment_sentence(self, tokens: list[str]) -> str:
        lower = [token.lower() for token in tokens]
        # Two empty slots at either end, which a rule sees beyond the sentence.
        words = ["", "", *lower, "", ""]
        tags = ["", "", *self._initial_tags(tokens, lower), "", ""]
        gates = self._gates
        pieces = []
        for at, token in enumerate(tokens, 2):
            tag, word, previous, following = tags[at], words[at], words[at - 1], words[at + 1]
            by_word, by_previous, by_following, otherwise = gates[tag]
            if word in by_word or previous in by_previous or following in by_following or otherwise:
                context = (
                    word, previous, following, words[at - 2], words[at + 2],
                    tag, tags[at - 1], tags[at + 1], tags[at - 2], tags[at + 2],
                )  # fmt: skip
                tag = conclude(self._rules[tag], context, tag)
            pieces.append(" " if tag == "B" else "_")
            pieces.append(token)
        return "".join(pieces[1:])

    def _initial_tags(self, tokens: list[str], lower: list[str]) -> list[str]:
        """Tag by longest matching over lexicon and places; runs of capitals become names."""
        tags: list[str] = []
        last = len(tokens) - 1
        at = 0
        while at < last:
            token = tokens[at]
            first, width = "B", 1
            if token.isalpha():
                small = token[0].islower()
                # A lower-case syllable before a capital stands alone: "anh Ba", "nước Anh".
                if not (small and tokens[at + 1][0].isupper()):
                    width = self._longest_match(lower, at)
                    if width == 1 and not (small or token.isupper() or lower[at] in _NOT_NAMES):
                        width = _name_width(tokens, at)
                        if width > 1 and at and _goes_on(tokens[at - 1], lower[at]):
                            first = "I"
            tags.append(first)
            tags += "I" * (width - 1)
            at += width
        if at == last:
            tags.append("B")
        return tags

    def _longest_match(self, lower: list[str], at: int) -> int:
        """Count the syllables of the longest known word that begins here; 1 without one."""
        pair = f"{lower[at]} {lower[at + 1]}"
        widest = self._widest.get(pair)
        if widest is None:
            return 1
        for width in range(min(widest, len(lower) - at), 2, -1):
            if " ".join(lower[at : at + width]) in self._words:
                return width
        return 2 if pair in self._words else 1


def _name_width(tokens: list[str], at: int) -> int:
    """Count the tokens of the name that begins here: this and up to three capitalised ones.

    Java looks at UTF-16 units, of which those beyond U+FFFF are no letters: they make no names.
    """
    if max(tokens[at]) > "\uffff":
        return 1
    end = at + 1
    stop = min(at + _MAX_SYLLABLES, len(tokens))
    while end < stop:
        token = tokens[end]
        if token[0].islower() or not token.isalpha() or token in _BRACKETS:
            break
        if max(token) > "\uffff":
            break
        end += 1
    return end - at


def _goes_on(previous: str, syllable: str) -> bool:
    """Return whether a syllable continues the family name before it: "Nguyễn" + "Văn An"."""
    return (
        syllable in names.MIDDLE_NAMES
        and previous[0].isupper()
        and previous.lower() in names.FAMILY_NAMES
    )


def _widest_by_pair(words: frozenset[str]) -> dict[str, int]:
    """Count, for the first two syllables of each word, the syllables of the longest such word."""
    widest = dict.fromkeys([word for word in words if word.count(" ") == 1], 2)
    longer = [word for word in words if 1 < word.count(" ") < _MAX_SYLLABLES]
    for word in longer:
        syllables = word.split(" ")
        pair = f"{syllables[0]} {syllables[1]}"
        widest[pair] = max(widest.get(pair, 0), len(syllables))
    return widest
