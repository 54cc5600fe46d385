import unicodedata
from pathlib import Path

import pytest
from vireo_client.captions import read_captions
from vireo_client.errors import DataError


def test_reads_images_with_their_captions_in_order(data_set):
    path = data_set(
        {"image": "b.jpg", "captions": ["một", "hai"]},
        {"image": "a.jpg", "captions": ["ba"], "source": "ignored"},
        images=("a.jpg", "b.jpg"),
    )
    records = read_captions(path.parent).records
    assert [(r.path.name, r.captions) for r in records] == [
        ("b.jpg", ("một", "hai")),
        ("a.jpg", ("ba",)),
    ]


def test_lines_of_one_image_are_joined_and_repeats_dropped(data_set):
    path = data_set(
        {"image": "a.jpg", "captions": ["một", "hai"]},
        {"image": "./a.jpg", "captions": ["hai", "ba"]},
        images=("a.jpg",),
    )
    assert [r.captions for r in read_captions(path).records] == [("một", "hai", "ba")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "not JSON"),
        ("[1, 2]", "not an object"),
        ('{"captions": ["x"]}', "names no image"),
        ('{"image": "a.jpg"}', "has no caption"),
        ('{"image": "a.jpg", "captions": []}', "has no caption"),
        ('{"image": "a.jpg", "captions": null}', "has no caption"),
        ('{"image": "a.jpg", "captions": [1]}', "1 caption(s) that are no text"),
        ('{"image": "a.jpg", "captions": [{"tokens": ["x"]}]}', "1 caption(s) that are no text"),
        ('{"image": "gone.jpg", "captions": ["x"]}', "no such image"),
        ('{"image": "", "captions": ["x"]}', '"image" must be'),
        ('{"image": "a.jpg", "captions": ["  ", "\\n"]}', "2 empty caption"),
    ],
)
def test_a_bad_line_is_skipped_with_its_number_and_reason(data_set, line, reason):
    path = data_set({"image": "a.jpg", "captions": ["tốt"]}, "", line, images=("a.jpg",))
    captions = read_captions(path)
    assert [r.captions for r in captions.records] == [("tốt",)]
    (skip,) = captions.skipped
    assert skip.where == f"{path}:3"
    assert reason in skip.reason


def test_bytes_that_are_not_utf8_cost_one_line(data_set):
    path = data_set({"image": "a.jpg", "captions": ["tốt"]}, images=("a.jpg",))
    with path.open("ab") as file:
        file.write(b'{"image": "a.jpg", "captions": ["\xff\xfe"]}\n')
    captions = read_captions(path)
    assert len(captions.records) == 1
    assert captions.skipped[0].where.endswith(":2")


def test_a_set_with_nothing_usable_is_an_error_that_says_why(data_set):
    path = data_set({"image": "gone.jpg", "captions": ["x"]})
    with pytest.raises(DataError, match=r"no usable image.*captions\.jsonl:1: no such image"):
        read_captions(path)


def test_a_missing_file_is_an_error_that_shows_the_format(tmp_path):
    with pytest.raises(DataError, match=r'no such file.*"captions"'):
        read_captions(tmp_path)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_file", ["NFC", "NFD"])
def test_vietnamese_file_names_are_found_in_both_forms(data_set, on_disk, in_file):
    name = "thư mục/chợ nổi Cái Răng.jpg"
    path = data_set(
        {"image": unicodedata.normalize(in_file, name), "captions": ["chợ nổi"]},
        images=(unicodedata.normalize(on_disk, name),),
    )
    (record,) = read_captions(path).records
    assert record.path.is_file()


def test_a_name_in_mixed_forms_is_found(data_set):
    folder, name = unicodedata.normalize("NFD", "Đà Nẵng"), unicodedata.normalize("NFC", "biển.jpg")
    path = data_set(
        {"image": str(Path(unicodedata.normalize("NFC", folder)) / name), "captions": ["biển"]},
        images=(f"{folder}/{name}",),
    )
    assert len(read_captions(path).records) == 1


def test_real_captions_are_read_whole(shared_data):
    captions = read_captions(shared_data / "photos_vi")
    assert len(captions.records) == 627
    assert captions.skipped == []
