import errno
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from vireo_client.errors import DataError
from vireo_training.readers import read_data


@pytest.fixture
def tar(tmp_path):
    def write(name: str, files: dict[str, bytes | str], mode: str = "w") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as file:
            for member, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(member)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
        return path

    return write


@pytest.fixture
def jpegs(images):
    return [path.read_bytes() for path in images("src/1.jpg", "src/2.jpg", "src/3.jpg")]


@pytest.mark.parametrize(("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz")])
def test_samples_are_images_with_txt_or_json_captions(tar, jpegs, name, mode):
    path = tar(
        name,
        {
            "a/0001.jpg": jpegs[0],
            "a/0001.txt": "một\n\nhai\n",
            "a/0001.json": json.dumps({"caption": "not read: the .txt is there"}),
            "b/0001.json": json.dumps({"captions": ["ba", "bốn"], "key": "1"}),
            "b/0001.jpg": jpegs[1],
        },
        mode,
    )
    captions = read_data(path)
    assert [r.path.read_bytes() for r in captions.records] == jpegs[:2]
    assert [r.captions for r in captions.records] == [("một", "hai"), ("ba", "bốn")]
    assert captions.skipped == []


def test_splits_of_the_json_are_read_beside_a_txt_too(tar, jpegs):
    files = {
        "1.jpg": jpegs[0], "1.json": '{"sentences": [{"raw": "một"}], "split": "test"}',
        "2.jpg": jpegs[1], "2.txt": "hai", "2.json": '{"split": "restval"}',
        "3.jpg": jpegs[2], "3.txt": "ba", "3.json": "{broken",
    }  # fmt: skip
    path = tar("x.tar", files)
    for _ in ("read", "unpacked already"):
        records = read_data(path).records
        assert [r.captions for r in records] == [("một",), ("hai",), ("ba",)]
        assert [r.split for r in records] == ["test", "train", None]


def test_broken_samples_are_skipped_by_key(tar, jpegs, reasons):
    path = tar(
        "x.tar",
        {
            "1.jpg": jpegs[0], "1.txt": "tốt",
            "2.txt": "no image",
            "3.jpg": jpegs[1],
            "4.jpg": jpegs[1], "4.json": "{broken",
            "5.jpg": jpegs[1], "5.txt": b"\xff",
            "6.jpg": jpegs[1], "6.txt": " \n ",
            "7.jpg": jpegs[1], "7.json": '{"caption": null}',
            "8.jpg": jpegs[1], "8.json": '{"key": 1}',
        },
    )  # fmt: skip
    captions = read_data(path)
    assert len(captions.records) == 1
    found = [skip.removeprefix("x.tar: ") for skip in reasons(captions)]
    expected = [
        "2: no image",
        "3: neither .txt nor .json",
        "4: the captions are not readable",
        "5: the captions are not readable",
        "6: 1 empty caption",
        "7: has no caption",
        "8: has no caption",
    ]
    assert len(found) == len(expected)
    for skip, start in zip(found, expected, strict=True):
        assert skip.startswith(start)
    # The second reading does not open the tar and tells the same.
    assert read_data(path) == captions


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_truncated_tar_gives_the_samples_before_the_end(tar, jpegs, reasons, damage):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một", "2.jpg": jpegs[1], "2.txt": "hai"})
    with tarfile.open(path) as file:
        second = file.getmember("2.jpg").offset
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: second + 600])
    else:
        path.write_bytes(data[:second] + b"\xaa" * 512 + data[second + 512 :])
    captions = read_data(path)
    assert [r.captions for r in captions.records] == [("một",)]
    assert any("damaged" in skip for skip in reasons(captions))


def test_links_and_folders_in_a_tar_are_passed_over(tar, jpegs):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một"})
    with tarfile.open(path, "a") as file:
        for name, kind in (("2.jpg", tarfile.SYMTYPE), ("d.jpg", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    captions = read_data(path)
    assert len(captions.records) == 1
    assert captions.skipped == []


def test_no_tar_at_all_is_an_error(write):
    with pytest.raises(DataError, match=r"x\.tar: not a readable tar"):
        read_data(write("x.tar", b"hello"))


def test_member_names_cannot_leave_the_folder(tar, jpegs, tmp_path):
    path = tar("in/x.tar", {"../../evil.jpg": jpegs[0], "../../evil.txt": "một"})
    (record,) = read_data(path).records
    assert record.path.resolve().is_relative_to(tmp_path / "in" / "vireo-pictures")
    assert not list(tmp_path.rglob("*evil*"))


def test_shards_in_a_folder_are_one_set(tar, jpegs, tmp_path):
    tar("shards/0.tar", {"1.jpg": jpegs[0], "1.txt": "một"})
    tar("shards/1.tar", {"1.jpg": jpegs[1], "1.txt": "hai"})
    captions = read_data(tmp_path / "shards", scratch=tmp_path / "scratch")
    assert [r.captions for r in captions.records] == [("một",), ("hai",)]
    assert not (tmp_path / "shards" / "vireo-pictures").exists()
    assert all(r.path.is_relative_to(tmp_path / "scratch") for r in captions.records)


def test_an_unpacking_that_was_stopped_goes_on(tar, jpegs):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một", "2.jpg": jpegs[1], "2.txt": "hai"})
    first, second = read_data(path).records
    (first.path.parent.parent / "captions.jsonl").unlink()
    second.path.unlink()
    kept = first.path.stat().st_ino
    assert read_data(path).records == [first, second]
    assert first.path.stat().st_ino == kept
    assert second.path.read_bytes() == jpegs[1]


def test_a_full_disk_is_an_error_and_keeps_finished_images(tar, jpegs, monkeypatch, tmp_path):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một", "2.jpg": jpegs[1], "2.txt": "hai"})
    write = Path.write_bytes

    def full(target, data):
        if data == jpegs[1]:
            write(target, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(target, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"cannot unpack x\.tar .*No space left"):
            read_data(path)
    files = [each for each in (tmp_path / "vireo-pictures").rglob("*") if each.is_file()]
    assert sorted(each.name for each in files) == ["00000000.jpg", "unpacked-from.json"]
    assert len(read_data(path).records) == 2


def test_images_that_went_away_are_unpacked_again(tar, jpegs):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một"})
    (record,) = read_data(path).records
    record.path.unlink()
    assert read_data(path).records == [record]
    assert record.path.read_bytes() == jpegs[0]


def test_a_changed_tar_is_unpacked_again(tar, jpegs):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một"})
    read_data(path)
    tar("x.tar", {"1.jpg": jpegs[2], "1.txt": "mới"})
    os.utime(path, ns=(1, 1))
    (record,) = read_data(path).records
    assert record.captions == ("mới",)
    assert record.path.read_bytes() == jpegs[2]


def test_a_folder_that_is_somebodys_is_refused(tar, jpegs):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một"})
    folder = read_data(path).records[0].path.parent.parent
    (folder / "unpacked-from.json").unlink()
    with pytest.raises(DataError, match="not written by Vireo"):
        read_data(path)
    assert (folder / "captions.jsonl").is_file()


def test_a_place_that_cannot_be_written_is_an_error_that_names_scratch(tar, jpegs, write):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một"})
    with pytest.raises(DataError, match=r"cannot unpack x\.tar here .*--scratch"):
        read_data(path, scratch=write("file", "in the way"))


def test_a_folder_of_images_has_no_meaning_for_a_tar(tar, jpegs):
    path = tar("x.tar", {"1.jpg": jpegs[0], "1.txt": "một"})
    with pytest.raises(DataError, match="carries its images"):
        read_data(f"{path}@{path.parent}")
