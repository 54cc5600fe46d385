"""Filters of a search: what is written on the command line or given as a dict, as one tree.

The grammar, `and` binding closer than `or`, `not` closest:

    filter     = term ("or" term)*
    term       = factor ("and" factor)*
    factor     = "not" factor | "(" filter ")" | condition
    condition  = column operator value
               | column ["not"] "in" "(" value ("," value)* ")"
               | column "is" ["not"] "null"
    operator   = "=" | "!=" | "<" | "<=" | ">" | ">=" | "^="
    column     = a name, in backticks where it is not of letters, digits, "_" and "."
    value      = a text in '..' or ".." | number | date | "true" | "false"
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, NoReturn

from ..errors import DataError
from .dates import Period, parse_period
from .predicates import (
    MAX_DEPTH,
    OPERATORS,
    And,
    Comparison,
    IsNull,
    Literal,
    Not,
    OneOf,
    Or,
    Predicate,
)

Filter = str | Mapping[str, object] | Predicate
"""A filter as a caller gives it: a text, a dict, or a tree."""

MAX_LENGTH = 100_000
"""How many characters a filter may have."""

_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<date>[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:T[0-9:.]+(?:Z|[+-][0-9:]+)?)?)?(?![\w.-]))
    |(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.-]))
    |(?P<sign><=|>=|!=|\^=|[=<>(),])
    |(?P<name>[^\W\d][\w.]*|`[^`]+`)""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)

_DICT_OPERATORS = {"eq": "=", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=",
                   "prefix": "^="}  # fmt: skip


def as_predicate(filter_: Filter) -> Predicate:
    """Turn a filter into a tree.

    A dict holds conditions that shall all be true: `{"make": "Canon", "taken": {"gte": "2024-01",
    "lt": "2024-07"}}`. The operators are `eq`, `ne`, `lt`, `lte`, `gt`, `gte`, `prefix`, `in`
    (with a list) and `null` (with true or false). A value alone means `eq`, and None
    `{"null": True}`. The keys `"and"` and `"or"` hold a list of dicts, `"not"` a dict.

    Raises:
        DataError: the filter is not written as above; the message says where.
    """
    if isinstance(filter_, str):
        return parse(filter_)
    if isinstance(filter_, Mapping):
        return _of_dict(filter_, 0)
    if isinstance(filter_, Predicate):
        return filter_
    raise DataError(f"filter: {filter_!r} is neither a text nor a dict")


def parse(text: str) -> Predicate:
    """Parse the text of a filter.

    Args:
        text: `folder ^= "2024/" and taken >= 2024-01-01 and not (make = "Canon" or iso in (100))`.

    Raises:
        DataError: the text does not follow the grammar above; the message names the position.
    """
    if len(text) > MAX_LENGTH:
        raise DataError(f"filter: {len(text):,} characters; {MAX_LENGTH:,} are taken at most")
    parser = _Parser(text)
    predicate = parser.any_of(0)
    if parser.token.kind != "end":
        parser.fail("expected `and`, `or` or the end")
    return predicate


class _Token(NamedTuple):
    kind: str
    """A group's name of `_TOKEN`, "keyword", or "end"."""
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            wrong = "this text has no end" if text[position] in "\"'`" else "cannot read this"
            _fail(wrong, text, position)
        kind, part = found.lastgroup or "", found[0]
        if kind == "name" and part.lower() in _KEYWORDS:
            kind, part = "keyword", part.lower()
        if kind != "blank":
            tokens.append(_Token(kind, part, position))
        position = found.end()
    return [*tokens, _Token("end", "", len(text))]


def _fail(wrong: str, text: str, position: int) -> NoReturn:
    rest = text[position : position + 20]
    shown = rest if rest.isprintable() else ascii(rest)[1:-1]
    near = f"near `{shown}`" if rest else "at the end"
    raise DataError(f"filter: {wrong}, at character {position + 1} ({near})")


class _Parser:
    """Reads the tokens of one text from left to right, a method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = iter(_tokens(text))
        self.token = next(self.tokens)

    def fail(self, wrong: str) -> NoReturn:
        _fail(wrong, self.text, self.token.position)

    def take(self) -> _Token:
        taken = self.token
        self.token = next(self.tokens, taken)
        return taken

    def accept(self, text: str) -> bool:
        """Take the next token if it is this sign or keyword."""
        if self.token.kind in ("sign", "keyword") and self.token.text == text:
            self.take()
            return True
        return False

    def expect(self, text: str, where: str) -> None:
        if not self.accept(text):
            self.fail(f"expected `{text}` {where}")

    def any_of(self, depth: int) -> Predicate:
        parts = [self.all_of(depth)]
        while self.accept("or"):
            parts.append(self.all_of(depth))
        return parts[0] if len(parts) == 1 else Or(parts)

    def all_of(self, depth: int) -> Predicate:
        parts = [self.factor(depth)]
        while self.accept("and"):
            parts.append(self.factor(depth))
        return parts[0] if len(parts) == 1 else And(parts)

    def factor(self, depth: int) -> Predicate:
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        if self.accept("not"):
            return Not(self.factor(depth + 1))
        if self.accept("("):
            inner = self.any_of(depth + 1)
            self.expect(")", "to close the parenthesis")
            return inner
        return self.condition()

    def condition(self) -> Predicate:
        if self.token.kind != "name":
            self.fail("expected a column's name")
        column = self.take().text.strip("`")
        if self.accept("is"):
            negated = self.accept("not")
            self.expect("null", "behind `is`")
            return Not(IsNull(column)) if negated else IsNull(column)
        if self.accept("not"):
            self.expect("in", "behind `not`")
            return Not(self.one_of(column))
        if self.accept("in"):
            return self.one_of(column)
        if self.token.text not in OPERATORS:
            self.fail(f"expected {', '.join(OPERATORS)}, `in` or `is null` behind {column!r}")
        operator = self.take().text
        return Comparison(column, operator, self.value())

    def one_of(self, column: str) -> OneOf:
        self.expect("(", "behind `in`")
        values = [self.value()]
        while self.accept(","):
            values.append(self.value())
        self.expect(")", "behind the last value")
        return OneOf(column, values)

    def value(self) -> Literal:
        kind, text, _ = self.token
        if kind == "keyword" and text in ("true", "false"):
            return self.take().text == "true"
        if kind == "text":
            return _ESCAPE.sub(r"\1", self.take().text[1:-1])
        if kind == "number":
            self.take()
            return int(text) if re.fullmatch("[+-]?[0-9]{1,30}", text) else float(text)
        if kind == "date":
            return self.date()
        if kind == "keyword" and text == "null":
            self.fail("a value is not compared with null: write `is null`")
        return self.fail("expected a value: a text in quotes, a number, a date, true or false")

    def date(self) -> Period:
        try:
            period = parse_period(self.token.text)
        except DataError as error:
            self.fail(str(error))
        self.take()
        return period


def _of_dict(conditions: Mapping[str, object], depth: int) -> Predicate:
    if depth > MAX_DEPTH:
        raise DataError(f"filter: nested more than {MAX_DEPTH} deep; write it flatter")
    parts: list[Predicate] = []
    for key, value in conditions.items():
        if key in ("and", "or"):
            inner = [_of_dict(_mapping(part, key), depth + 1) for part in _list(value, key)]
            parts.append(And(inner) if key == "and" else Or(inner))
        elif key == "not":
            parts.append(Not(_of_dict(_mapping(value, key), depth + 1)))
        elif not isinstance(key, str):
            raise DataError(f"filter: {key!r} is no column's name; write it as a text")
        elif value is None:
            parts.append(IsNull(key))
        elif isinstance(value, Mapping):
            parts += [_of_operator(key, name, operand) for name, operand in value.items()]
        else:
            parts.append(Comparison(key, "=", _literal(key, value)))
    return parts[0] if len(parts) == 1 else And(parts)


def _of_operator(column: str, name: object, operand: object) -> Predicate:
    if name == "in":
        return OneOf(column, [_literal(column, value) for value in _list(operand, f"{column}: in")])
    if name == "null":
        if not isinstance(operand, bool):
            raise DataError(f"filter: {column!r}: null is {operand!r}; write true or false")
        return IsNull(column) if operand else Not(IsNull(column))
    if not isinstance(name, str) or name not in _DICT_OPERATORS:
        there = ", ".join([*_DICT_OPERATORS, "in", "null"])
        raise DataError(f"filter: {column!r}: no operator {name!r} (there are {there})")
    return Comparison(column, _DICT_OPERATORS[name], _literal(column, operand))


def _literal(column: str, value: object) -> Literal:
    if isinstance(value, (str, int, float, bool, datetime.date, Period)):
        return value
    raise DataError(
        f"filter: {column!r}: {value!r:.60} is no value; give a text, a number, a date, true or "
        "false"
    )


def _list(value: object, key: str) -> list[object]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise DataError(f"filter: {key!r} takes a list, not {value!r:.60}")
    return list(value)


def _mapping(value: object, key: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise DataError(f"filter: {key!r} takes a dict of conditions, not {value!r:.60}")
    return value
