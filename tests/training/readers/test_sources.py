import sys
from pathlib import Path

import pytest
from vireo_client.errors import DataError
from vireo_training.readers import Source, read_data

LINE = '{"image": "a.jpg", "captions": ["một"]}'
COCO = (
    '{%s"images": [{"id": 1, "file_name": "a.jpg"}],%s'
    '"annotations": [{"image_id": 1, "caption": "một"}]}'
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.json", Source(Path("a.json"))),
        ("a.json=2", Source(Path("a.json"), weight=2.0)),
        ("a.json@pics", Source(Path("a.json"), Path("pics"))),
        ("d/a.json@pics/x=0.5", Source(Path("d/a.json"), Path("pics/x"), 0.5)),
    ],
)
def test_a_source_is_a_path_with_images_and_weight(text, expected):
    assert Source.parse(text) == expected


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "two", ""])
def test_a_weight_is_a_number_above_zero(weight):
    with pytest.raises(DataError, match="number above 0"):
        Source.parse(f"a.json={weight}")


def test_signs_in_the_name_of_a_file_that_is_there_are_part_of_it(write):
    path = write("me@home=2.json", "[]")
    assert Source.parse(str(path)) == Source(path)
    assert Source.parse(f"{path}=3") == Source(path, weight=3.0)


def test_jsonl_takes_one_caption_or_several(images, write, summary):
    images("a.jpg", "b.jpg")
    path = write("captions.jsonl", f'{LINE}\n{{"image": "b.jpg", "caption": "hai"}}\n')
    expected = [("a.jpg", ("một",)), ("b.jpg", ("hai",))]
    assert summary(read_data(path)) == expected
    assert summary(read_data(str(path.parent))) == expected


def test_jsonl_with_its_images_elsewhere(images, write, summary):
    images("pics/a.jpg")
    path = write("in/x.jsonl", LINE)
    assert summary(read_data(f"{path}@{path.parent.parent / 'pics'}")) == [("a.jpg", ("một",))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", f"{LINE}\n{LINE}"),
        ("a.json", LINE),
        ("a.json", "{broken\n" + LINE),
        ("a.txt", '[{"file_name": "a.jpg", "caption": "một"}]'),
        ("a.json", '\ufeff[\n{"image": "a.jpg", "caption": "một"}]'),
        ("a.json", COCO % ("", "")),
        ("a.txt", COCO % ("\n", "\n")),
        ("a.json", COCO % ('"info": "' + "x" * 70_000 + '", ', "")),
        ("a.csv", "a.jpg#0\tmột"),
        ("a.txt", "image,caption\na.jpg,một"),
    ],
)
def test_content_shows_the_format_whatever_the_name(images, write, summary, name, content):
    images("a.jpg")
    assert summary(read_data(write(name, content))) == [("a.jpg", ("một",))]


@pytest.mark.parametrize("content", ["hello\n", "", b"\xff\xd8\xff\xe0 an image"])
def test_an_unknown_format_is_an_error_that_lists_the_known_ones(write, content):
    with pytest.raises(DataError, match=r"x\.txt:1: of an unknown format.*--format jsonl, coco"):
        read_data(write("x.txt", content))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that opens and does not read")
def test_a_file_that_cannot_be_read_is_an_error():
    with pytest.raises(DataError, match=r"/proc/self/mem: cannot be read"):
        read_data("/proc/self/mem")


def test_errors_name_the_missing_field(tmp_path, write):
    with pytest.raises(DataError, match="no such file or folder"):
        read_data(tmp_path / "gone.json")
    with pytest.raises(DataError, match=r"holds no captions\.jsonl"):
        read_data(tmp_path)
    with pytest.raises(DataError, match="no such folder of images"):
        read_data(f"{write('a.jsonl', LINE)}@{tmp_path / 'gone'}")
    with pytest.raises(DataError, match="no format 'xml'"):
        read_data(tmp_path, file_format="xml")


def test_a_folder_with_one_table_is_read_and_one_with_two_is_named(images, write, summary):
    images("d/1.jpg")
    path = write("d/mine.csv", "image,caption\n1.jpg,một\n")
    assert summary(read_data(path.parent)) == [("1.jpg", ("một",))]
    write("d/other.json", [])
    with pytest.raises(DataError, match=r"several of .*: mine\.csv, other\.json; name the file"):
        read_data(path.parent)


def test_letters_are_shown_as_they_are(write):
    with pytest.raises(DataError, match="it begins 'ảnh gì đó'; name the format"):
        read_data(write("x.txt", "ảnh gì đó\n"))
