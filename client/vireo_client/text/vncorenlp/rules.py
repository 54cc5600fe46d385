"""Single-classification ripple-down rules over the words around a syllable.

The rules are a tree (Nguyen et al., LREC 2018, section 2.2): of the rules at one level the first
whose condition holds fires, and its own exceptions are then tried in the same way; the last rule
that fired gives the conclusion. The file shows the tree by tabs, one rule a line:

    object.prevWord1 == "người" and object.word == "ta" : object.conclusion = "B"

A level of the tree holds hundreds of rules, of which hardly any can hold at one syllable. So each
level is a dispatch table: a rule stands under the value it asks of one slot (the word if it asks
for one, else the word before, and so on), and a syllable looks up its own few values instead of
trying the rules one by one. Of the rules that hold, the first in the file wins.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from vireo_client.errors import SegmenterError

# The slots of a context, in the order in which a rule is filed under one of them: most selective
# first. A context is a tuple of strings in this order; outside the sentence a slot is "".
SLOTS = (
    "word",
    "prevWord1",
    "nextWord1",
    "prevWord2",
    "nextWord2",
    "tag",
    "prevTag1",
    "nextTag1",
    "prevTag2",
    "nextTag2",
)
Context = tuple[str, str, str, str, str, str, str, str, str, str]
CONCLUSIONS = ("B", "I")

_LINE = re.compile(r'(\t*)(\S.*?) : object\.conclusion = "([^"]+)"\s*')
_TEST = re.compile(r'object\.(\w+) == "([^"]*)"')
_ROOT = "True"
_SLOT_NUMBERS = {slot: number for number, slot in enumerate(SLOTS)}


class Rule(NamedTuple):
    """One rule."""

    order: int
    """The number of its line in the file."""
    tests: tuple[tuple[int, str], ...]
    """Pairs (slot number, value); all must hold."""
    conclusion: str
    exceptions: Level


class Level:
    """The rules of one level: `filed[slot][value]` are those that ask `value` of `slot`.

    The rules stand in the order of the file.
    """

    __slots__ = ("filed",)

    def __init__(self) -> None:
        self.filed: dict[int, dict[str, list[Rule]]] = {}

    def add(self, rule: Rule) -> None:
        """File a rule under the most selective of its tests."""
        slot, value = min(rule.tests)
        self.filed.setdefault(slot, {}).setdefault(value, []).append(rule)

    def gate(self) -> tuple[Collection[str], Collection[str], Collection[str], bool]:
        """Return the values without which no rule of this level holds for a syllable.

        Returns:
            The values of `word`, `prevWord1` and `nextWord1` under which rules are filed, and
            whether there are rules filed otherwise. At most syllables none of them is met.
        """
        word, previous, following = (self.filed.get(slot, {}) for slot in range(3))
        return word, previous, following, any(slot > 2 for slot in self.filed)

    def find(self, context: Context) -> Rule | None:
        """Return the first rule, in the order of the file, whose condition holds, or None."""
        first: Rule | None = None
        for slot, by_value in self.filed.items():
            for rule in by_value.get(context[slot], ()):
                if first is not None and rule.order > first.order:
                    break
                for at, value in rule.tests:
                    if context[at] != value:
                        break
                else:
                    first = rule
                    break
        return first


def conclude(level: Level, context: Context, default: str) -> str:
    """Return the conclusion of the last rule that fires from this level on.

    Args:
        level: The level to begin with.
        context: The slots' values, in the order of `SLOTS`.
        default: The conclusion if no rule fires.
    """
    while (rule := level.find(context)) is not None:
        default = rule.conclusion
        if not rule.exceptions.filed:
            break
        level = rule.exceptions
    return default


def read_rules(path: Path) -> dict[str, Level]:
    """Read a `.rdr` file.

    Args:
        path: The file: the root on its first line, every rule one tab deeper than what it excepts.
            The rules right below the root keep the initial tags: `object.tag == "B"` gives B.

    Returns:
        For each initial tag, the rules that correct it.

    Raises:
        SegmenterError: If the file cannot be read or a line is not a rule.
    """
    first = _read_tree(path)
    by_tag = first.filed.get(SLOTS.index("tag"), {})
    levels = {tag: rules[0].exceptions for tag, rules in by_tag.items()}
    kept = all(
        len(rules) == 1 and len(rules[0].tests) == 1 and rules[0].conclusion == tag
        for tag, rules in by_tag.items()
    )
    if len(first.filed) != 1 or not kept or set(levels) != set(CONCLUSIONS):
        raise SegmenterError(
            f"rules {path}: do not begin by keeping the tags; fetch the file again"
        )
    return levels


def _read_tree(path: Path) -> Level:
    """Read a file and return the level below the root."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise SegmenterError(f"rules {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SegmenterError(f"rules {path}: not UTF-8; fetch the file again") from error
    first = Level()
    # open_levels[d] takes the rules at depth d + 1: the exceptions of the last rule at depth d.
    open_levels = [first]
    root_seen = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise _bad_line(path, number, "not of the form `condition : conclusion`")
        tabs, condition, conclusion = match.groups()
        depth = len(tabs)
        if depth == 0:
            if root_seen or condition != _ROOT:
                raise _bad_line(path, number, "not the one root")
            root_seen = True
            continue
        if not root_seen or depth > len(open_levels):
            raise _bad_line(path, number, "indented deeper than the rule it excepts")
        if conclusion not in CONCLUSIONS:
            raise _bad_line(path, number, f"unknown conclusion {conclusion!r}")
        rule = Rule(number, _tests(path, number, condition), conclusion, Level())
        open_levels[depth - 1].add(rule)
        del open_levels[depth:]
        open_levels.append(rule.exceptions)
    if not root_seen:
        raise SegmenterError(f"rules {path}: empty; fetch the file again")
    return first


def _tests(path: Path, number: int, condition: str) -> tuple[tuple[int, str], ...]:
    """Parse the tests of a condition, the least selective slots last."""
    tests = []
    for part in condition.split(" and "):
        match = _TEST.fullmatch(part)
        slot = _SLOT_NUMBERS.get(match[1]) if match is not None else None
        if match is None or slot is None:
            raise _bad_line(path, number, f"unknown condition {part[:60]!r}")
        tests.append((slot, match[2]))
    tests.sort()
    return tuple(tests)


def _bad_line(path: Path, number: int, reason: str) -> SegmenterError:
    return SegmenterError(f"rules {path}: line {number} is {reason}; fetch the file again")
