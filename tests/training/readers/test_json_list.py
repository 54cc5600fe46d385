import json

import pytest
from vireo_client.errors import DataError
from vireo_training.readers import read_data


def test_miniclip_pairs_are_joined_by_image(images, write, summary):
    images("images/a.jpg", "images/b.jpg")
    path = write(
        "data.json",
        [
            {"file_name": "a.jpg", "caption": "một"},
            {"file_name": "b.jpg", "caption": "hai"},
            {"file_name": "images/a.jpg", "caption": "ba"},
            {"image": "b.jpg", "captions": ["bốn", "hai"]},
        ],
    )
    assert summary(read_data(path)) == [("a.jpg", ("một", "ba")), ("b.jpg", ("hai", "bốn"))]


def test_broken_objects_are_skipped(images, write, reasons):
    images("a.jpg")
    path = write(
        "data.json",
        [
            {"file_name": "a.jpg", "caption": "tốt"},
            "x",
            {"caption": "x"},
            {"file_name": "a.jpg"},
            {"file_name": "", "caption": "x"},
            {"file_name": "a\0.jpg", "caption": "x"},
            {"file_name": "a" * 300 + ".jpg", "caption": "x"},
            {"file_name": "a.jpg", "caption": None},
        ],
    )
    found = reasons(read_data(path))
    assert [skip.split(": ")[1] for skip in found] == [f"[{n}]" for n in range(1, 8)]
    assert "not an object" in found[0]
    assert "names no image" in found[1]
    assert "has no caption" in found[2]
    assert '"file_name" must be the path' in found[3]
    assert "no such image" in found[5]


def test_halves_of_surrogate_pairs_reach_neither_captions_nor_messages(images, write):
    images("a.jpg")
    good = {"file_name": "a.jpg", "caption": "tốt"}
    half = '{"file_name": "a.jpg", "caption": "\\ud83d"}, {"file_name": "\\ud83d", "caption": "x"}'
    captions = read_data(write("data.json", f"[{json.dumps(good)}, {half}]"))
    assert [r.captions for r in captions.records] == [("tốt",)]
    assert len(captions.skipped) == 2
    assert "\n".join(map(str, captions.skipped)).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"file_name": "a.jpg",\n "caption": }]', r"data\.json:2: not JSON"),
        (b'[{"file_name": "a.jpg",\n "caption": "\xff"}]', r"data\.json:2: not UTF-8"),
        ("[1" + "0" * 5000 + "]", r"data\.json: not JSON"),
        ("[" * 100_000, r"data\.json: JSON nested too deeply"),
        ('{"images": 3}', r"data\.json: neither"),
        ("[]", r"data\.json: no usable \w+ with a caption"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_with_its_place(write, content, message):
    with pytest.raises(DataError, match=message):
        read_data(write("data.json", content))
