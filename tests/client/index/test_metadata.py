import datetime
import sqlite3

import numpy as np
import pytest
from vireo_client.errors import DataError, SearchIndexError
from vireo_client.index import metadata
from vireo_client.index.metadata import ImageFields


@pytest.fixture
def db():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in metadata.SCHEMA:
        connection.execute(statement)
    yield connection
    connection.close()


def write(db, *rows, first=1):
    metadata.write(db, [ImageFields(n, f"{n}.jpg", row) for n, row in enumerate(rows, first)])


def test_values_come_back_as_they_were_written(db):
    row = {
        "shop": "Chợ Bến Thành", "price": 12.5, "pieces": 3, "sold": False,
        "bought": "2024-05-17", "noted": datetime.datetime(2024, 5, 17, 8, 30),
        "empty": None, "name": "a.jpg", "big": -(2**63),
    }  # fmt: skip
    write(db, row, {"shop": "😀"})
    types = {name: c.type for name, c in metadata.columns(db).items()}
    assert types == {
        **metadata.BUILT_IN, "shop": "text", "price": "number", "pieces": "integer",
        "sold": "boolean", "bought": "date", "noted": "date", "big": "integer",
    }  # fmt: skip
    read = metadata.read(db, [1, 2, 99])
    stored = {**row, "bought": "2024-05-17T00:00:00", "noted": "2024-05-17T08:30:00"}
    del stored["empty"]
    assert read == {1: stored, 2: {"shop": "😀"}}
    assert read[1]["sold"] is False


def test_names_of_columns_may_be_anything_printable(db):
    row = {'a"b; DROP TABLE fields; --': 1, "Tên": 2, "tên": 3, "user_1": 4, "select": 5}
    write(db, row)
    assert metadata.read(db, [1]) == {1: row}


def test_writing_again_replaces_the_row_and_removing_removes_it(db):
    write(db, {"a": 1, "b": 2})
    write(db, {"a": 3})
    assert metadata.read(db, [1]) == {1: {"a": 3}}
    metadata.remove(db, [1])
    assert metadata.read(db, [1]) == {}


def test_a_rolled_back_transaction_leaves_no_column(db):
    db.execute("BEGIN")
    write(db, {"a": 1})
    db.execute("ROLLBACK")
    assert "a" not in metadata.columns(db)


def test_a_name_in_nfd_is_the_name_in_nfc(db):
    nfd = "Hue\u0302\u0301"
    write(db, {nfd: nfd})
    write(db, {"Huế": "Huế"}, first=2)
    assert metadata.read(db, [1, 2]) == {1: {"Huế": "Huế"}, 2: {"Huế": "Huế"}}


def test_whole_numbers_become_numbers_but_never_texts(db):
    write(db, {"iso": 100})
    write(db, {"iso": 0.5}, first=2)
    assert metadata.columns(db)["iso"].type == "number"
    with pytest.raises(DataError, match=r"3.jpg: column 'iso' holds number values.*'many'"):
        write(db, {"iso": "many"}, first=3)


def test_texts_are_dates_where_all_of_them_are(db):
    write(db, {"when": "2024-05-17", "what": "2024-05-17"}, {"what": "in May"})
    assert metadata.columns(db)["when"].type == "date"
    assert metadata.columns(db)["what"].type == "text"
    with pytest.raises(DataError, match=r"9.jpg: column 'when' holds date values.*'in May'"):
        write(db, {"when": "in May"}, first=9)
    write(db, {"what": "2024-05-18"}, first=3)
    assert metadata.read(db, [3]) == {3: {"what": "2024-05-18"}}


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ([1, "a"], "2.jpg: column 'c' has the text 'a' here, but integer values before"),
        ([True, 1], "2.jpg: column 'c' has the integer 1 here, but boolean values before"),
        ([datetime.date(2024, 5, 17), "May"], None),
        ([[1]], r"1.jpg: column 'c': \[1\] is a list"),
        ([{"a": 1}], "1.jpg: column 'c': .* is an object"),
        ([float("nan")], "1.jpg: column 'c': nan is no number; write null"),
        ([2**63], "1.jpg: column 'c': .* needs more than 64 bits"),
        (["a\0b"], r"1.jpg: column 'c': 'a\\x00b' holds a NUL character"),
        (["\ud800"], r"1.jpg: column 'c': '\\ud800' is not valid Unicode"),
    ],
)
def test_values_of_wrong_types_are_named(db, values, wrong):
    rows = [{"c": value} for value in values]
    if wrong is None:
        write(db, *rows)
        assert metadata.columns(db)["c"].type == "text"
        return
    with pytest.raises(DataError, match=wrong):
        write(db, *rows)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a`b", "x" * 101, "\ud800", "a\0"])
def test_names_that_cannot_be_columns_are_refused(db, name):
    with pytest.raises(DataError, match="column"):
        write(db, {name: 1})


def test_a_built_in_column_takes_a_value_of_its_type_alone(db):
    write(db, {"taken": "1998-01-01", "latitude": 10})
    assert metadata.read(db, [1])[1]["latitude"] == 10
    with pytest.raises(DataError, match="column 'taken' holds date values"):
        write(db, {"taken": "long ago"})
    with pytest.raises(DataError, match="column 'width' holds integer values"):
        write(db, {"width": 1.5})


def test_declared_types_hold_for_what_follows(db):
    metadata.declare(db, {"code": "text", "ratio": "number"})
    write(db, {"code": "2024-05-17", "ratio": 1})
    assert metadata.read(db, [1]) == {1: {"code": "2024-05-17", "ratio": 1}}
    with pytest.raises(DataError, match="'code' holds text values in this index, not integer"):
        metadata.declare(db, {"code": "integer"})
    with pytest.raises(DataError, match="no type 'float'"):
        metadata.declare(db, {"other": "float"})


def test_there_is_a_limit_of_columns(db):
    metadata.declare(db, {f"c{n}": "text" for n in range(metadata.MAX_COLUMNS)})
    with pytest.raises(DataError, match="takes 500 columns at most"):
        write(db, {"one_more": 1})


def test_numpy_scalars_are_stored_as_numbers(db):
    write(db, {"i": np.int64(7), "f": np.float32(0.5), "b": np.bool_(True)})
    assert metadata.read(db, [np.int64(1)]) == {1: {"i": 7, "f": 0.5, "b": True}}


def test_more_ids_are_read_than_a_statement_takes_values(db):
    many = 33_000  # SQLite's own limit is 32,766
    write(db, *[{"n": n} for n in range(many)])
    read = metadata.read(db, range(1, many + 1))
    assert all(read[n + 1] == {"n": n} for n in range(many))


def test_an_index_without_metadata_has_none_and_can_be_given_some():
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, path, bytes, mtime_ns)")
    db.execute("INSERT INTO images VALUES (4, '/p/a.jpg', 12, 1700000000500000000)")
    assert metadata.read(db, [4]) == {}
    with pytest.raises(SearchIndexError, match="vireo index"):
        metadata.columns(db)
    for statement in metadata.SCHEMA:
        db.execute(statement)
    metadata.rebuild(db)
    assert metadata.read(db, [4])[4] == {
        "folder": "/p/", "name": "a.jpg", "bytes": 12, "modified": "2023-11-14T22:13:20+00:00"
    }  # fmt: skip
    db.close()
