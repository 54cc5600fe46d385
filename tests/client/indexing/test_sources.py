import csv
import io
import json
import os
import shutil

import pytest
from vireo_client.captions import Skip
from vireo_client.errors import DataError
from vireo_client.indexing import sources
from vireo_client.indexing.report import IndexReport, check_report_file, write_report
from vireo_client.indexing.sources import list_images, list_paths


def _paths(data, **options):
    records, skipped = list_paths(io.BytesIO(data), **options)
    return [str(record.path) for record in records], skipped


def test_paths_come_from_standard_input_a_line_or_a_nul_each():
    assert _paths("a.jpg\r\nảnh 🐟.png\n\nb c.png".encode())[0] == [
        "a.jpg", "ảnh 🐟.png", "b c.png",
    ]  # fmt: skip
    assert _paths(b"a\nb.jpg\0c.jpg\0", separator=b"\0")[0] == ["a\nb.jpg", "c.jpg"]
    assert _paths(b"x\xff.png\n")[0] == [os.fsdecode(b"x\xff.png")]
    for empty in (b"", b"\n\n"):
        with pytest.raises(DataError, match="names no image"):
            _paths(empty)


def test_a_stream_that_is_no_list_of_paths_does_not_fill_memory(monkeypatch):
    names, (skip,) = _paths(b"a.png\n" + b"x" * 100_000 + b"\nb.png\n")
    assert names == ["a.png", "b.png"]
    assert "no path" in skip.reason

    class Endless(io.RawIOBase):
        read_bytes = 0

        def read(self, size=-1):
            assert size > 0
            Endless.read_bytes += size
            return b"x" * size

    with pytest.raises(DataError, match="no list of paths"):
        list_paths(Endless())
    assert Endless.read_bytes < 1 << 25


def test_each_source_is_known_by_what_it_is(photos, tmp_path):
    (photos / "list.csv").write_text("image\na.png\n")
    assert len(list_images(photos)[0]) == 6
    assert len(list_images(photos / "list.csv")[0]) == 1
    with pytest.raises(DataError, match="no such file or folder"):
        list_images(tmp_path / "gone")
    assert list_images(tmp_path / "gone", allow_empty=True) == ([], [])


def test_links_in_circles_and_every_kind_of_name_are_indexed_once(photos, index_source, catalogue):
    import unicodedata

    folder = photos / "thư mục"
    folder.mkdir()
    (folder / "up").symlink_to(photos)
    (photos / "itself").symlink_to(photos / "itself")
    for form in ("NFC", "NFD"):
        shutil.copy(photos / "a.png", photos / unicodedata.normalize(form, "ảnh 🐟 ấy.png"))
    shutil.copy(photos / "a.png", os.fsencode(photos) + b"/x\xff.png")
    os.link(photos / "b.png", folder / "hard link.png")
    report = index_source(photos)
    assert report.added == 6 + 2 + 1
    assert sorted(skip.reason for skip in report.skipped) == [
        "cannot be followed (Too many levels of symbolic links)",
        "its name is not UTF-8; rename it",
    ]  # fmt: skip
    assert len(catalogue()) == 9
    assert index_source(photos).unchanged == 9


def test_the_folders_of_images_are_told_from_the_source(photos, index_source, tmp_path):
    import sqlite3
    from contextlib import closing

    (photos / "2024").mkdir()
    (photos / "a.png").rename(photos / "2024" / "a.png")
    (photos / "list.csv").write_text("image,price\n2024/a.png,12\nb.png,3\n")
    index_source(photos / "list.csv")
    with closing(sqlite3.connect(tmp_path / "i" / "catalogue.sqlite")) as db:
        rows = db.execute(
            "SELECT folder, name, user_1, bytes, width > 0 FROM fields ORDER BY name"
        ).fetchall()
        names = dict(db.execute("SELECT sql_name, name FROM columns"))
    size = (photos / "2024" / "a.png").stat().st_size
    assert rows[0] == ("2024/", "a.png", 12, size, 1)
    assert rows[1][:3] == ("", "b.png", 3)
    assert names == {"user_1": "price"}


def test_columns_that_change_are_written_again(photos, index_source):
    path = photos / "list.csv"
    for price, added in ((12, 1), (12, 0), (13, 1)):
        path.write_text(f"image,price\na.png,{price}\n")
        assert index_source(path).added == added


def _report():
    return IndexReport(
        added=2,
        skipped=[Skip("/a\udcff.png", "not a readable image"), Skip("/b.png", 'says "no", twice')],
        moved=[("/old.png", "/new.png")],
        removed=["/gone.png"],
        duplicates=[["/1.png", "/2.png", "/3.png"]],
    )


def test_a_report_names_every_path_with_its_reason(tmp_path):
    write_report(_report(), tmp_path / "r.json")
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["added"] == 2
    assert told["skipped"][1] == {"path": "/b.png", "reason": 'says "no", twice'}
    assert told["moved"] == [["/old.png", "/new.png"]]
    write_report(_report(), tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["what", "path", "detail"],
        ["skipped", "/a\\udcff.png", "not a readable image"],
        ["skipped", "/b.png", 'says "no", twice'],
        ["moved", "/old.png", "/new.png"],
        ["removed", "/gone.png", ""],
        ["duplicate", "/2.png", "/1.png"],
        ["duplicate", "/3.png", "/1.png"],
    ]


def test_a_report_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(DataError, match=r"\.json or a \.csv"):
        check_report_file(tmp_path / "r.txt")
    with pytest.raises(DataError, match="does not exist"):
        check_report_file(tmp_path / "gone" / "r.csv")
    check_report_file(tmp_path / "r.csv")
    assert sources.STANDARD_INPUT == "-"
