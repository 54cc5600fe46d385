import datetime
import operator
import sqlite3
import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vireo_client.errors import DataError
from vireo_client.index import metadata
from vireo_client.index.filters import as_predicate, parse
from vireo_client.index.metadata import ImageFields
from vireo_client.index.predicates import And, Comparison, IsNull, Not, OneOf, Or, matching_ids


def database(rows):
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in metadata.SCHEMA:
        db.execute(statement)
    metadata.declare(
        db, {"iso": "integer", "price": "number", "sold": "boolean", "shop": "text", "day": "date"}
    )
    metadata.write(db, [ImageFields(n, f"{n}.jpg", row) for n, row in enumerate(rows, 1)])
    return db


def ids(db, filter_):
    found = matching_ids(db, as_predicate(filter_))
    assert found.dtype == np.int64
    return found.tolist()


@pytest.fixture(scope="module")
def db():
    db = database([
        {"folder": "2024/", "name": "a.jpg", "iso": 100, "sold": True, "day": "2024-05-17"},
        {"folder": "2024/Huế/", "name": "b.jpg", "iso": 200, "price": 1.5, "sold": False,
         "day": "2024-05-17T23:59:59.5+07:00"},
        {"folder": "2024-old/", "name": "c.jpg", "shop": 'it\'s "so"', "day": "2024-05-18"},
        {"folder": "", "name": "d.jpg", "iso": -3, "price": 2, "shop": "2024", "day": "2023-12-31"},
        {},
    ])  # fmt: skip
    yield db
    db.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('folder ^= "2024/"', [1, 2]),
        ('folder = "2024"', [1]),
        ("folder = '2024/'", [1]),
        ('folder != "2024"', [2, 3, 4, 5]),
        ('folder in ("2024", "2024-old")', [1, 3]),
        ('folder = ""', [4]),
        ('folder ^= ""', [1, 2, 3, 4]),
        ("iso > 100", [2]),
        ("iso >= 100 and iso < 200.5", [1, 2]),
        ("iso = 100.0", [1]),
        ("iso = -3 OR iso = +200", [2, 4]),
        ("iso in (100, -3)", [1, 4]),
        ("iso not in (100, -3)", [2, 3, 5]),
        ("iso is null", [3, 5]),
        ("iso is not null", [1, 2, 4]),
        ("not (iso = 100)", [2, 3, 4, 5]),
        ("not iso > 100", [1, 3, 4, 5]),
        ("not not iso > 100", [2]),
        ("price >= 1.5e0", [2, 4]),
        ("sold = true", [1]),
        ("sold != true", [2, 3, 4, 5]),
        ("sold in (true, false)", [1, 2]),
        ("day = 2024", [1, 2, 3]),
        ("day = 2024-05", [1, 2, 3]),
        ("day = 2024-05-17", [1, 2]),
        ("day = 2024-05-17T23:59", [2]),
        ("day = 2024-05-17T23:59:59", [2]),
        ("day = '2024-05-17 23:59'", [2]),
        ("day != 2024-05-17", [3, 4, 5]),
        ("day > 2024-05-17", [3]),
        ("day >= 2024-05-17", [1, 2, 3]),
        ("day < 2024-05-18", [1, 2, 4]),
        ("day <= 2024-05-17", [1, 2, 4]),
        ("day < 2024-05-17T00:00:00", [4]),
        ("day ^= '2024-05-1'", None),
        ("day in (2023, 2024-05-18)", [3, 4]),
        ("""shop = 'it\\'s "so"'""", [3]),
        ("shop = '2024'", [4]),
        ("`shop`='2024'or iso=100and sold=true", None),
        ("`shop`='2024'or iso=100 and sold=true", [1, 4]),
        ("iso = 100 or iso = 200 and sold = true", [1]),
        ("(iso = 100 or iso = 200) and sold = true", [1]),
        ("not iso = 100 and not iso = 200", [3, 4, 5]),
        ("shop = '\\'; DROP TABLE fields; --'", []),
        ("shop ^= '%'", []),
        ("shop ^= '_'", []),
        ("shop = '😀'", []),
    ],
)
def test_filters(db, text, expected):
    if expected is None:
        with pytest.raises(DataError, match="filter:"):
            ids(db, text)
    else:
        assert ids(db, text) == expected


@pytest.mark.parametrize(
    ("filter_", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"folder": {"prefix": "2024/"}}, [1, 2]),
        ({"folder": {"prefix": "2024/"}, "iso": {"gte": 150, "lt": 300}}, [2]),
        ({"iso": 100}, [1]),
        ({"iso": None}, [3, 5]),
        ({"iso": {"null": False}}, [1, 2, 4]),
        ({"iso": {"in": []}}, []),
        ({"iso": {"in": (100, 200)}}, [1, 2]),
        ({"iso": {"ne": 100}}, [2, 3, 4, 5]),
        ({"or": [{"iso": 100}, {"shop": "2024"}]}, [1, 4]),
        ({"not": {"or": [{"iso": 100}, {"shop": "2024"}]}}, [2, 3, 5]),
        ({"and": [{"iso": {"lte": 100}}, {"iso": {"gt": 0}}]}, [1]),
        ({"day": {"eq": datetime.date(2024, 5, 17)}}, [1, 2]),
        ({"day": {"gt": datetime.datetime(2024, 5, 17, 12)}}, [2, 3]),
        ({"day": 2023}, [4]),
        (And([]), [1, 2, 3, 4, 5]),
        (Or([]), []),
    ],
)
def test_filters_as_dicts(db, filter_, expected):
    assert ids(db, filter_) == expected


def test_nfd_in_a_filter_equals_nfc_in_the_index(db):
    assert ids(db, {"folder": unicodedata.normalize("NFD", "2024/Huế")}) == [2]
    assert ids(db, 'folder ^= "2024/Hue\u0302\u0301"') == [2]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "expected a column's name, at character 1 .at the end"),
        ("iso", "expected =, .*behind 'iso', at character 4"),
        ("iso >", "expected a value.*at character 6"),
        ("iso > abc", "expected a value.*at character 7 .near `abc`"),
        ("iso = 1 iso = 2", "expected `and`, `or` or the end, at character 9"),
        ("(iso = 1", "expected `.` to close the parenthesis, at character 9"),
        ("iso = 1)", "expected `and`, `or` or the end, at character 8"),
        ("iso in ()", "expected a value.*at character 9"),
        ("iso in (1 2)", "expected `.` behind the last value, at character 11"),
        ("iso in 1", r"expected `\(` behind `in`"),
        ("iso is 1", "expected `null` behind `is`"),
        ("iso = null", "write `is null`"),
        ("shop = 'abc", "this text has no end, at character 8"),
        ("iso = 1 & iso = 2", "cannot read this, at character 9 .near `& iso = 2`"),
        ("iso = 1;DROP TABLE fields", "cannot read this, at character 8"),
        ("iso = \0", r"cannot read this, at character 7 .near `\\x00`"),
        ("day = 2024-13-01", "no date.*at character 7"),
        ("day = '2024-05-17T08:00+07:00'", "'day' is a date, but.*leave out '.07:00'"),
        ("day = 2024-02-30", "no date"),
        ("isso = 1", "no column 'isso'; do you mean 'iso'.*there are folder, name"),
        ("ISO = 1", "do you mean 'iso'"),
        ("`a b\ud800` = 1", "no column"),
        ("iso = 'x'", "'iso' is integer, and 'x' is not; write a number"),
        ("iso = true", "'iso' is integer, and True is not"),
        ("iso = 99999999999999999999", "more than 64 bits"),
        ("price = 1e999", "write a finite number"),
        ("name = 2024", "'name' is text, and 2024 is not; write it in quotes"),
        ("name = 2024-05", "'name' is text, and '2024-05' is not; write it in quotes"),
        ("day = 1.5", "'day' is date, and 1.5 is not"),
        ("day = 'May'", "'day' is a date, but 'May' is no date"),
        ("sold = 1", "'sold' is boolean, and 1 is not; write true or false"),
        ("sold > false", "'sold' is true or false; compare it with = or != alone"),
        ("iso ^= 1", "`.=` compares the beginning of texts, but 'iso' is integer"),
        ("name = 'a\0'", "holds a NUL character"),
        ("name = '\ud800'", "not valid Unicode"),
    ],
)
def test_what_is_wrong_with_a_filter_is_said(db, text, wrong):
    with pytest.raises(DataError, match=wrong):
        ids(db, text)


@pytest.mark.parametrize(
    ("filter_", "wrong"),
    [
        ({"iso": {"above": 1}}, "no operator 'above' .there are eq, ne"),
        ({"iso": {"in": "100"}}, "'iso: in' takes a list"),
        ({"iso": {"null": 1}}, "write true or false"),
        ({"iso": [1, 2]}, "is no value"),
        ({"or": {"iso": 1}}, "'or' takes a list"),
        ({"not": [1]}, "'not' takes a dict"),
        ({1: 1}, "1 is no column's name"),
        ({"price": {"lt": float("nan")}}, "write a finite number"),
        (5, "neither a text nor a dict"),
    ],
)
def test_what_is_wrong_with_a_dict_is_said(db, filter_, wrong):
    with pytest.raises(DataError, match=wrong):
        ids(db, filter_)


def test_long_filters_work_up_to_named_limits(db):
    assert ids(db, " or ".join(f"iso = {n}" for n in range(1000))) == [1, 2]
    assert ids(db, f"iso in ({', '.join(map(str, range(10_000)))})") == [1, 2]
    with pytest.raises(DataError, match="more than 1000 comparisons"):
        ids(db, " or ".join(f"iso = {n}" for n in range(1001)))
    with pytest.raises(DataError, match="more than 10000 values"):
        ids(db, f"iso in ({', '.join(map(str, range(10_001)))})")
    with pytest.raises(DataError, match="characters; 100,000 are taken at most"):
        parse("x" * 100_001)


@pytest.mark.parametrize(
    "text",
    ["(" * 10_000, "not " * 2_500, "(" * 60 + "iso = 1" + ")" * 60, "`" * 9_999, "'" * 9_999],
)
def test_deep_and_endless_filters_are_refused(db, text):
    with pytest.raises(DataError, match=r"nested more than 30 deep|no end|cannot read"):
        ids(db, text)


def test_a_deep_dict_is_refused(db):
    filter_ = {"iso": 1}
    for _ in range(2_000):
        filter_ = {"not": filter_}
    with pytest.raises(DataError, match="nested more than 30 deep"):
        ids(db, filter_)


def test_a_filter_as_deep_and_as_long_as_allowed_is_within_sqlites_limit(db):
    predicate = Comparison("iso", "=", 100)
    others = [Comparison("iso", "=", 1000 + n) for n in range(60)]
    for _ in range(15):
        predicate = Not(Or([*others, predicate]))
    assert ids(db, predicate) == [2, 3, 4, 5]


def test_a_bushy_filter_is_within_sqlites_limit(db):
    predicate = Comparison("iso", "=", 100)
    for level in range(9):
        predicate = (And, Or)[level % 2]([predicate, Not(Not(predicate))])
    assert ids(db, predicate) == [1]


# Against a brute-force evaluation in Python.

TEXTS = st.sampled_from(["", "a", "ab", "abc", "b", "é", "e\u0301", "😀", "a%", "A", "2024/"])
MOMENTS = st.datetimes(datetime.datetime(2023, 12, 30), datetime.datetime(2024, 1, 2, 23, 59)).map(
    lambda moment: moment.isoformat(timespec="seconds")
)
VALUES = {
    "iso": st.integers(-3, 3),
    "price": st.sampled_from([-1, 0, 0.1, 0.5, 1, 1.0, 2.5]),
    "sold": st.booleans(),
    "shop": TEXTS,
    "day": MOMENTS,
}
ROWS = st.lists(
    st.fixed_dictionaries({}, optional={n: st.none() | v for n, v in VALUES.items()}), max_size=12
)
PERIODS = st.builds(lambda text, n: text[:n], MOMENTS, st.sampled_from([4, 7, 10, 16, 19]))
GIVEN = {**VALUES, "day": PERIODS}
COMPARE = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def comparisons(name):
    operators = {"shop": ["=", "!=", "<", "<=", ">", ">=", "^="], "sold": ["=", "!="]}
    return st.one_of(
        st.builds(
            Comparison, st.just(name), st.sampled_from(operators.get(name, list(COMPARE))),
            GIVEN[name],
        ),
        st.builds(OneOf, st.just(name), st.lists(GIVEN[name], max_size=3)),
        st.builds(IsNull, st.just(name)),
    )  # fmt: skip


PREDICATES = st.recursive(
    st.sampled_from(sorted(VALUES)).flatmap(comparisons),
    lambda part: st.one_of(
        st.builds(Not, part),
        st.builds(And, st.lists(part, max_size=3)),
        st.builds(Or, st.lists(part, max_size=3)),
    ),
    max_leaves=10,
)


def holds(predicate, row):
    match predicate:
        case Not(part):
            return not holds(part, row)
        case And(parts):
            return all(holds(part, row) for part in parts)
        case Or(parts):
            return any(holds(part, row) for part in parts)
        case IsNull(column):
            return row.get(column) is None
        case OneOf(column, values):
            return any(holds(Comparison(column, "=", value), row) for value in values)
        case Comparison(column, "!=", value):
            return not holds(Comparison(column, "=", value), row)
        case Comparison(column, sign, value):
            there = row.get(column)
            if there is None:
                return False
            if column == "day":  # by the calendar, to the precision of the filter's date
                return COMPARE[sign](there[: len(value)], value)
            if column == "shop":
                there, value = (unicodedata.normalize("NFC", text) for text in (there, value))
            return there.startswith(value) if sign == "^=" else COMPARE[sign](there, value)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(ROWS, PREDICATES)
def test_any_predicate_passes_what_a_loop_in_python_passes(rows, predicate):
    db = database(rows)
    expected = [n for n, row in enumerate(rows, 1) if holds(predicate, row)]
    assert ids(db, predicate) == expected
    everything = list(range(1, len(rows) + 1))
    assert sorted(expected + ids(db, Not(predicate))) == everything
    db.close()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60) | st.text("()'\"`andornti =<>^.,12-\\\0\ud800", max_size=60))
def test_any_text_is_a_filter_or_a_named_error(text):
    try:
        parse(text)
    except DataError as error:
        where = str(error)
    else:
        where = "at character"
    assert "at character" in where
