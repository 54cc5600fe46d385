"""Small data files that would unpack to any size, or never end."""

import io
import json
import os
import tarfile
import tracemalloc

import pytest
from support.tars import pax_header, tar_header
from vireo_client import captions
from vireo_client.captions import read_captions
from vireo_client.errors import DataError
from vireo_client.tars import MAX_TEXT_BYTES
from vireo_training.readers import read_data
from vireo_training.readers.limits import MAX_IMAGE_BYTES


def _good(jpeg: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in (("0.jpg", jpeg), ("0.txt", b"a")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


END = bytes(1024)
TARS = {
    "a sparse image of 4 GB": (
        tar_header(b"1.jpg", 0, b"S", sparse=4 << 30) + END,
        f"jpg has 4,294,967,296 bytes, at most {MAX_IMAGE_BYTES:,} are taken",
    ),
    "a sparse text of 4 GB": (
        tar_header(b"1.txt", 0, b"S", sparse=4 << 30) + END,
        f"txt has 4,294,967,296 bytes, at most {MAX_TEXT_BYTES:,} are taken",
    ),
    "a size below zero": (tar_header(b"1.jpg", -512) + END, "damaged"),
    "a size below zero in a longer header": (pax_header(size="-1024") + END, "damaged"),
    "a name of 4 GB": (tar_header(b"1.jpg", 4 << 30, b"L") + END, "damaged"),
    "a header of 4 GB": (tar_header(b"1.jpg", 4 << 30, b"x") + END, "damaged"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_small_tar_neither_grows_nor_goes_round(name, photo, tmp_path):
    damage, reason = TARS[name]
    path = tmp_path / "x.tar"
    path.write_bytes(_good(photo().read_bytes()) + damage)
    tracemalloc.start()
    try:
        found = read_data(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert len(found.records) == 1
    assert any(reason in str(skip) for skip in found.skipped), found.skipped


def test_an_image_that_is_too_large_is_skipped_by_name_and_the_rest_is_read(
    photo, tmp_path, monkeypatch
):
    jpeg = photo().read_bytes()
    monkeypatch.setattr("vireo_training.readers.webdataset.MAX_IMAGE_BYTES", len(jpeg))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for key, data in (("1", jpeg), ("2", jpeg + b"\0"), ("3", jpeg)):
            for suffix, content in (("jpg", data), ("txt", b"a")):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    path = tmp_path / "x.tar.gz"
    path.write_bytes(buffer.getvalue())
    found = read_data(path)
    assert len(found.records) == 2
    (skip,) = found.skipped
    assert f"2: jpg has {len(jpeg) + 1:,} bytes" in str(skip)


def test_a_cell_that_is_too_large_is_skipped_by_its_row(photo, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    import pyarrow.parquet as pq

    jpeg = photo().read_bytes()
    huge = bytes(MAX_IMAGE_BYTES + MAX_TEXT_BYTES)
    table = pa.table({"image": [jpeg, huge, jpeg], "caption": ["một", "hai", "ba"]})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd")
    assert (tmp_path / "x.parquet").stat().st_size < 100_000
    found = read_data(tmp_path / "x.parquet")
    assert len(found.records) == 2
    (skip,) = found.skipped
    assert "row 1" in str(skip)
    assert "bytes, at most" in str(skip)


def test_a_line_without_end_is_passed_over(data_set, monkeypatch):
    monkeypatch.setattr(captions, "MAX_LINE_BYTES", 100)
    line = json.dumps({"image": "a.jpg", "captions": ["một"]})
    path = data_set("x" * 1000, line, "y" * 99, "z" * 100, images=("a.jpg",))
    found = read_captions(path)
    assert [r.captions for r in found.records] == [("một",)]
    reasons = [str(skip).removeprefix(f"{path}:") for skip in found.skipped]
    assert reasons[0] == "1: a line of more than 100 bytes"
    assert [reason.split(":")[0] for reason in reasons] == ["1", "3", "4"]


def test_a_caption_of_a_book_is_no_caption(data_set):
    texts = ["một", "x" * captions.MAX_CAPTION, "x" * (captions.MAX_CAPTION + 1)]
    path = data_set({"image": "a.jpg", "captions": texts}, images=("a.jpg",))
    found = read_captions(path)
    assert [r.captions for r in found.records] == [tuple(texts[:2])]
    assert "1 caption(s) of more than 20000 letters" in str(found.skipped[0])


@pytest.mark.parametrize("name", ["absolute", "above", "link", "linked folder"])
@pytest.mark.parametrize("read", [read_captions, read_data])
def test_an_image_outside_the_folder_is_not_read(name, read, photo, tmp_path, monkeypatch):
    secret = photo("secret/1.jpg")
    folder = tmp_path / "a" / "b" / "data"  # readers of other formats look two folders around
    folder.mkdir(parents=True)
    (folder / "link.jpg").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent)
    image = {
        "absolute": str(secret),
        "above": os.path.relpath(secret, folder),
        "link": "link.jpg",
        "linked folder": "linked/1.jpg",
    }[name]
    path = folder / "captions.jsonl"
    path.write_text(json.dumps({"image": image, "captions": ["một"]}) + "\n")
    with pytest.raises(DataError, match=r"lies outside .* set VIREO_ALLOW_OUTSIDE=1"):
        read(path)
    monkeypatch.setenv("VIREO_ALLOW_OUTSIDE", "1")
    assert len(read(path).records) == 1


def test_a_folder_of_images_that_is_itself_a_link_is_read(photo, tmp_path):
    photo("disk/1.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "images").symlink_to(tmp_path / "disk")
    path = tmp_path / "data" / "x.csv"
    path.write_text("image,caption\n1.jpg,một\n", encoding="utf-8")
    assert len(read_data(path).records) == 1
