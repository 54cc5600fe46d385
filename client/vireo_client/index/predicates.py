"""The tree that a filter is, and its translation to SQL.

Every condition is true or false, also for an image without the value: then a comparison is false,
and `not` of it is true. SQL's own logic has a third value, which `not` leaves as it is; a condition
therefore asks first whether the value is there.

Values are always bound to the statement, never written into it. Columns are looked up among those
that the index has, and the statement names them as the catalogue does.
"""

from __future__ import annotations

import datetime
import difflib
import math
import sqlite3
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .dates import Period, moment_of, parse_period
from .metadata import Column, columns
from .values import BOOLEAN, DATE, TEXT, check_text, shown

OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "^=")

MAX_CONDITIONS = 1_000
"""How many comparisons a filter may have: SQLite limits the depth of an expression."""
MAX_VALUES = 10_000
"""How many values a filter may have: SQLite limits how many a statement may take."""
MAX_DEPTH = 30
"""How deep `and`, `or`, `not` and parentheses may lie in each other: SQLite's parser has a stack of
100."""
_CHAIN = 32

Literal: TypeAlias = str | int | float | bool | datetime.date | Period
"""A value of a filter; a `Period` is a date that was written without quotes."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`column operator value`; the operator is one of `OPERATORS`, `^=` meaning "begins with"."""

    column: str
    operator: str
    value: Literal


@dataclass(frozen=True, slots=True)
class OneOf:
    """`column in (value, ..)`."""

    column: str
    values: Sequence[Literal]


@dataclass(frozen=True, slots=True)
class IsNull:
    """`column is null`."""

    column: str


@dataclass(frozen=True, slots=True)
class Not:
    """`not part`."""

    part: Predicate


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts; true without any."""

    parts: Sequence[Predicate]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the parts at least; false without any."""

    parts: Sequence[Predicate]


Predicate: TypeAlias = Comparison | OneOf | IsNull | Not | And | Or


class Sql(NamedTuple):
    """A condition of SQL that is never NULL, and the values bound to it."""

    text: str
    values: list[str | int | float]
    depth: int = 0


def compile_predicate(predicate: Predicate, known: Mapping[str, Column]) -> Sql:
    """Translate a predicate to a condition over the table `fields`.

    Args:
        predicate: the tree.
        known: the columns of the index by name.

    Raises:
        DataError: a column is not there, a value is not of its column's type, or the predicate is
            beyond one of the limits above.
    """
    return _Compiler(known).compile(predicate, 0)


def matching_ids(db: sqlite3.Connection, predicate: Predicate) -> npt.NDArray[np.int64]:
    """Return the ids of the images that pass, INT64 `[N]`, ascending.

    Raises:
        DataError: as `compile_predicate`.
        SearchIndexError: the index was written before there was metadata.
    """
    condition = compile_predicate(predicate, columns(db))
    # One long text is read faster than a million rows of one number.
    query = f"SELECT group_concat(image_id) FROM fields WHERE {condition.text}"
    ((joined,),) = db.execute(query, condition.values)
    ids = np.fromstring(joined or "", dtype=np.int64, sep=",")
    ids.sort()
    return ids


class _Compiler:
    """Translates one predicate, and counts what it is made of."""

    def __init__(self, known: Mapping[str, Column]) -> None:
        self.known = known
        self.conditions = 0
        self.bound = 0

    def compile(self, predicate: Predicate, depth: int) -> Sql:
        if depth > MAX_DEPTH:
            raise DataError(f"filter: nested more than {MAX_DEPTH} deep; write it flatter")
        if isinstance(predicate, Not):
            return _negated(self.compile(predicate.part, depth + 1))
        if isinstance(predicate, (And, Or)):
            parts = [self.compile(part, depth + 1) for part in predicate.parts]
            return _joined(parts, "AND" if isinstance(predicate, And) else "OR")
        column = self.column(predicate.column)
        if isinstance(predicate, IsNull):
            return self.condition(f"({column.sql_name} IS NULL)", [])
        if isinstance(predicate, OneOf):
            return self.one_of(column, predicate.values)
        return self.compare(column, predicate.operator, predicate.value)

    def column(self, name: str) -> Column:
        name = unicodedata.normalize("NFC", name)
        if name in self.known:
            return self.known[name]
        folded = {other.casefold(): other for other in self.known}
        near = [folded[n] for n in difflib.get_close_matches(name.casefold(), folded, n=1)]
        meant = f"; do you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"filter: no column {shown(name)}{meant} (there are {', '.join(self.known)})"
        )

    def condition(self, text: str, values: list[str | int | float]) -> Sql:
        self.conditions += 1
        self.bound += len(values)
        if self.conditions > MAX_CONDITIONS:
            raise DataError(
                f"filter: more than {MAX_CONDITIONS} comparisons; write those of one column as "
                "`column in (.., ..)`"
            )
        if self.bound > MAX_VALUES:
            raise DataError(f"filter: more than {MAX_VALUES} values; use several filters")
        return Sql(text, values)

    def one_of(self, column: Column, values: Sequence[Literal]) -> Sql:
        if column.type == DATE:
            return _joined([self.compare(column, "=", value) for value in values], "OR")
        name, marks = column.sql_name, ", ".join("?" * len(values))
        bound = [_bound(column, value) for value in values]
        return self.condition(f"({name} IS NOT NULL AND {name} IN ({marks}))", bound)

    def compare(self, column: Column, operator: str, value: Literal) -> Sql:
        name = column.sql_name
        if operator == "!=":
            return _negated(self.compare(column, "=", value))
        if operator == "^=" and column.type != TEXT:
            raise DataError(
                f"filter: `^=` compares the beginning of texts, but {column.name!r} is "
                f"{column.type}"
            )
        if column.type == BOOLEAN and operator != "=":
            raise DataError(
                f"filter: {column.name!r} is true or false; compare it with = or != alone"
            )
        if column.type == DATE:
            return self.compare_dates(name, operator, _period(column, value))
        if operator == "^=":
            text = _text(column, value)
            return self.condition(
                f"({name} IS NOT NULL AND substr({name}, 1, ?) = ?)", [len(text), text]
            )
        return self.condition(
            f"({name} IS NOT NULL AND {name} {operator} ?)", [_bound(column, value)]
        )

    def compare_dates(self, name: str, operator: str, period: Period) -> Sql:
        first, end = period
        bounds = {
            "=": {">=": first, "<": end}, "<": {"<": first}, "<=": {"<": end},
            ">": {">=": end}, ">=": {">=": first},
        }[operator]  # fmt: skip
        tests = " AND ".join([f"{name} IS NOT NULL", *(f"{name} {sign} ?" for sign in bounds)])
        return self.condition(f"({tests})", list(bounds.values()))


def _negated(part: Sql) -> Sql:
    return part._replace(text=f"NOT {part.text}", depth=part.depth + 1)


def _joined(parts: Sequence[Sql], operator: str) -> Sql:
    """Join conditions, of any number.

    The deepest stands first, where it costs SQLite's parser one place of its stack a level. A long
    chain is cut into short ones: the depth of the expression is the length of its chains.
    """
    if not parts:
        return Sql("1" if operator == "AND" else "0", [])
    parts = sorted(parts, key=lambda part: -part.depth)
    while len(parts) > _CHAIN:
        chains = [parts[start : start + _CHAIN] for start in range(0, len(parts), _CHAIN)]
        parts = [_joined(chain, operator) for chain in chains]
    if len(parts) == 1:
        return parts[0]
    text = f"({f' {operator} '.join(part.text for part in parts)})"
    return Sql(text, [v for part in parts for v in part.values], parts[0].depth + 1)


def _bound(column: Column, value: Literal) -> str | int | float:
    """Return a value as it is compared with a column that holds no dates."""
    if column.type == TEXT:
        text = _text(column, value)
        # As folders are stored, so that "2024" is none of "2024-old".
        return f"{text}/" if column.name == "folder" and text[-1:] not in ("", "/") else text
    if column.type == BOOLEAN:
        if not isinstance(value, bool):
            raise _wrong_type(column, value, "write true or false")
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type(column, value, "write a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise _wrong_type(column, value, "write a finite number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise _wrong_type(column, value, "it needs more than 64 bits")
    return value


def _text(column: Column, value: Literal) -> str:
    if not isinstance(value, str):
        raise _wrong_type(column, value, "write it in quotes")
    check_text(value, f"filter: the value for {column.name!r}")
    return unicodedata.normalize("NFC", value)


def _period(column: Column, value: Literal) -> Period:
    if isinstance(value, Period):
        return value
    if isinstance(value, datetime.datetime):
        value = moment_of(value)
    elif isinstance(value, datetime.date):
        value = value.isoformat()
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:04d}"  # a year
    if not isinstance(value, str):
        raise _wrong_type(column, value, "write a date like 2024-05-17")
    try:
        return parse_period(value)
    except DataError as error:
        raise DataError(f"filter: {column.name!r} is a date, but {error}") from None


def _wrong_type(column: Column, value: object, instead: str) -> DataError:
    if isinstance(value, Period):
        value = value.first
    return DataError(
        f"filter: {column.name!r} is {column.type}, and {shown(value)} is not; {instead}"
    )
