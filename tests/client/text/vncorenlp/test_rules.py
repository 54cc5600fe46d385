from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data_folder import data_file
from support.text_models import RULES
from vireo_client.errors import SegmenterError
from vireo_client.text.vncorenlp.rules import SLOTS, Context, Level, Rule, conclude, read_rules


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "wordsegmenter.rdr"
    path.write_text(text, encoding="utf-8")
    return path


def _context(**slots: str) -> Context:
    return tuple(slots.get(slot, "") for slot in SLOTS)  # type: ignore[return-value]


def _all_rules(level: Level) -> list[Rule]:
    filed = [rule for by in level.filed.values() for rules in by.values() for rule in rules]
    return sorted(filed, key=lambda rule: rule.order)


def _one_by_one(level: Level, context: Context, default: str) -> str:
    """The method as the paper tells it: every rule is tried, in the order of the file."""
    for rule in _all_rules(level):
        if all(context[slot] == value for slot, value in rule.tests):
            return _one_by_one(rule.exceptions, context, rule.conclusion)
    return default


def test_an_exception_overrides_its_rule(tmp_path: Path) -> None:
    rules = read_rules(_write(tmp_path, RULES))
    plain = _context(word="sinh", prevWord1="học", nextWord1="học")
    assert conclude(rules["I"], plain, "I") == "B"
    excepted = _context(word="sinh", prevWord1="học", nextWord1="học", prevWord2="cô")
    assert conclude(rules["I"], excepted, "I") == "I"
    assert conclude(rules["I"], _context(word="khác"), "I") == "I"


def test_the_first_rule_of_the_file_wins(tmp_path: Path) -> None:
    text = RULES + "".join(
        f'\t\tobject.{condition} : object.conclusion = "{tag}"\n'
        for condition, tag in [('nextWord1 == "b"', "B"), ('word == "a"', "I")]
    )
    rules = read_rules(_write(tmp_path, text))
    assert conclude(rules["B"], _context(word="a", nextWord1="b"), "B") == "B"
    assert conclude(rules["B"], _context(word="a"), "B") == "I"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ("object\n", "line 1 is not of the form"),
        (RULES + RULES, "line 8 is not the one root"),
        (RULES.replace("prevWord2", "prevWord9"), "line 4 is unknown condition"),
        (RULES.replace("\t\t\t", "\t\t\t\t"), "line 4 is indented deeper"),
        (RULES.replace('conclusion = "B"', 'conclusion = "X"'), "unknown conclusion 'X'"),
        ("\n".join(RULES.split("\n")[:4]), "do not begin by keeping the tags"),
        (RULES[: len(RULES) // 2], "line"),
    ],
)
def test_a_broken_file_is_an_error_that_says_where(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SegmenterError, match=reason):
        read_rules(_write(tmp_path, text))


def test_a_missing_or_binary_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match="cannot be read"):
        read_rules(tmp_path / "nothing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SegmenterError, match="not UTF-8"):
        read_rules(tmp_path / "binary")


def test_dispatch_equals_trying_every_rule_on_the_real_model() -> None:
    rules = read_rules(data_file("vncorenlp", "models", "wordsegmenter", "wordsegmenter.rdr"))
    deep = [rule for level in rules.values() for rule in _all_rules(level)]
    values = sorted({value for rule in deep for slot, value in rule.tests if slot < 5} | {""})

    @given(st.sampled_from(deep), st.sampled_from("BI"), st.data())
    def check(rule: Rule, tag: str, data: st.DataObject) -> None:
        slots = [data.draw(st.sampled_from(values)) for _ in range(5)]
        slots += [tag, *(data.draw(st.sampled_from(["B", "I", ""])) for _ in range(4))]
        for slot, value in rule.tests:
            slots[slot] = value
        context: Context = tuple(slots)  # type: ignore[assignment]
        assert conclude(rules[tag], context, tag) == _one_by_one(rules[tag], context, tag)

    check()
