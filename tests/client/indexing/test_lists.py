import json
import os
import shutil

import pytest
from vireo_client import captions
from vireo_client.errors import DataError
from vireo_client.indexing.lists import read_list


def _fields(records):
    return {record.path.name: dict(record.fields) for record in records}


def test_a_jsonl_list_has_captions_and_columns_of_the_users_own(photos):
    rows = [
        {"image": "a.png", "captions": ["con cá", "màu đỏ"], "price": 12, "tag": "sea"},
        {"file_name": "b.png", "price": 7.5, "sold": True, "sizes": [1, 2], "none": None},
        {"image": "a.png", "caption": "con cá", "tag": "river"},
    ]
    path = photos / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    records, skipped = read_list(path)
    assert skipped == []
    assert [r.captions for r in records] == [("con cá", "màu đỏ"), ()]
    assert _fields(records) == {
        "a.png": {"price": 12, "tag": "river"},
        "b.png": {"price": 7.5, "sold": True, "sizes": "[1, 2]"},
    }


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_a_table_has_typed_columns(photos, delimiter):
    lines = [
        ["path", "caption", "price", "code", "rating"],
        ["a.png", "con cá", "12", "007", "4.5"],
        ["b.png", "", "7", "12", "5"],
        ["c.png", "ngôi nhà", "", "x", "-1e2"],
    ]
    path = photos / "list.csv"
    path.write_text("\n".join(delimiter.join(cells) for cells in lines), encoding="utf-8-sig")
    records, skipped = read_list(path)
    assert skipped == []
    assert [r.captions for r in records] == [("con cá",), (), ("ngôi nhà",)]
    assert _fields(records) == {
        "a.png": {"price": 12, "code": "007", "rating": 4.5},
        "b.png": {"price": 7, "code": "12", "rating": 5.0},
        "c.png": {"code": "x", "rating": -100.0},
    }


def test_a_parquet_list_has_the_types_of_its_columns(photos):
    pa = pytest.importorskip("pyarrow")
    import datetime

    import pyarrow.parquet as pq

    path = photos / "list.parquet"
    table = pa.table(
        {
            "image": ["a.png", "b.png", "gone.png"],
            "captions": [["một", "hai"], [], None],
            "price": [1.5, None, 2.0],
            "day": [datetime.date(2024, 5, 17)] * 3,
        }
    )
    pq.write_table(table, path)
    records, (skip,) = read_list(path)
    assert "row 2: no such image" in str(skip)
    assert [r.captions for r in records] == [("một", "hai"), ()]
    assert _fields(records) == {
        "a.png": {"price": 1.5, "day": "2024-05-17"},
        "b.png": {"day": "2024-05-17"},
    }
    pq.write_table(pa.table({"image": [b"abc"], "caption": ["một"]}), path)
    with pytest.raises(DataError, match="holds images and no paths"):
        read_list(path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match="not a readable parquet"):
        read_list(path)
    pq.write_table(pa.table({"image": ["a.png"], "tags": ["x"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"tags", b"t\xff\xfes"))
    with pytest.raises(DataError, match="not a readable parquet"):
        read_list(path)


def test_broken_rows_are_skipped_with_their_place(photos, monkeypatch):
    monkeypatch.setattr(captions, "MAX_LINE_BYTES", 200)
    path = photos / "list.jsonl"
    lines = [
        b'{"image": "a.png"}', b"nonsense", b'{"caption": "x"}', b'{"image": "gone.png"}',
        b'{"image": "b.png", "x": "' + b"y" * 5000 + b'"}', b'{"image": "c.png", "n": 1e999}',
        b"[1]", b"\xff", b'{"image": "d.png", "n": 99999999999999999999}', b'{"image": "e.png"}',
    ]  # fmt: skip
    path.write_bytes(b"\n".join(lines))
    records, skipped = read_list(path)
    assert [r.path.name for r in records] == ["a.png", "c.png", "e.png"]
    assert [skip.where.rpartition(":")[2] for skip in skipped] == list("2345789")
    assert "more than 200 bytes" in skipped[3].reason


def test_a_value_of_another_type_than_its_column_is_an_error_that_names_both(photos):
    path = photos / "list.jsonl"
    path.write_text('{"image": "a.png", "price": 1}\n{"image": "b.png", "price": "two"}')
    with pytest.raises(DataError, match=r"b\.png: column 'price' has the text 'two' here"):
        read_list(path)


def test_columns_that_an_index_fills_itself_are_left_out_and_named(photos, caplog):
    path = photos / "list.csv"
    path.write_text("image,width,price\na.png,99,1\n")
    records, _ = read_list(path)
    assert _fields(records) == {"a.png": {"price": 1}}
    assert "its columns width are left out" in caplog.text


@pytest.mark.parametrize("text", ["", "x,y\n1,2\n", '"image\n'])
def test_a_table_without_a_column_of_images_is_an_error(photos, text):
    path = photos / "list.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="names no column of images"):
        read_list(path)


@pytest.mark.parametrize("way", ["absolute", "parent", "link to a file", "linked folder"])
def test_a_list_names_files_outside_its_folder_only_where_that_is_allowed(photos, tmp_path, way):
    folder = tmp_path / "set"
    folder.mkdir()
    shutil.copy(photos / "b.png", folder)
    (folder / "link.png").symlink_to(photos / "a.png")
    (folder / "linked").symlink_to(photos)
    name = {
        "absolute": str(photos / "a.png"),
        "parent": "../photos/a.png",
        "link to a file": "link.png",
        "linked folder": "linked/a.png",
    }[way]
    path = folder / "captions.jsonl"
    path.write_text(f'{json.dumps({"image": name})}\n{{"image": "b.png"}}')
    records, (skip,) = read_list(path)
    assert [r.path.name for r in records] == ["b.png"]
    assert "--allow-outside" in skip.reason
    records, skipped = read_list(path, allow_outside=True)
    assert (len(records), skipped) == (2, [])
    assert os.path.realpath(records[0].path) == str(photos.resolve() / "a.png")


def test_names_in_nfc_and_nfd_find_the_same_file(photos):
    import unicodedata

    name = "ảnh 🐟.png"
    shutil.copy(photos / "a.png", photos / unicodedata.normalize("NFD", name))
    path = photos / "list.jsonl"
    path.write_text(json.dumps({"image": unicodedata.normalize("NFC", name)}))
    (record,), skipped = read_list(path)
    assert skipped == []
    assert record.path.is_file()
