import pytest
from vireo_training.readers import read_data


@pytest.mark.parametrize("indent", ["", "\n"])
@pytest.mark.parametrize(
    "values",
    [
        ('{"captions": ["một", "hai"]}', '{"caption": "ba"}'),
        ('["một", "hai"]', '"ba"'),
        ('{"sentences": [{"raw": "một"}, {"raw": "hai"}]}', '["ba"]'),
    ],
)
def test_an_object_keyed_by_image_is_read(images, write, summary, values, indent):
    images("00001.jpg", "00002.jpg")
    text = f'{{{indent}"00001.jpg": {values[0]},{indent}"00002.jpg": {values[1]}{indent}}}'
    assert summary(read_data(write("train.json", text))) == [
        ("00001.jpg", ("một", "hai")),
        ("00002.jpg", ("ba",)),
    ]


def test_broken_values_are_skipped_by_name(images, write, reasons):
    images("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    content = {
        "a.jpg": ["tốt"],
        "b.jpg": 5,
        "c.jpg": {"tags": ["x"]},
        "d.jpg": [],
        "e.jpg": [1],
        "gone.jpg": "x",
        "": "x",
    }
    found = reasons(read_data(write("x.json", content)))
    assert found[0].startswith('x.json: ["b.jpg"]: neither a caption, nor a list')
    assert found[1:4] == [
        'x.json: ["c.jpg"]: has no caption',
        'x.json: ["d.jpg"]: has no caption',
        'x.json: ["e.jpg"]: 1 caption(s) that are no text',
    ]
    assert "no such image" in found[4]
    assert found[5] == 'x.json: [""]: "key" must be the path of an image'


def test_numbers_for_keys_leave_the_name_to_the_value(images, write, summary):
    images("a.jpg", "b.jpg")
    content = {"0": {"image": "a.jpg", "captions": ["một"]}, "b.jpg": "hai"}
    assert summary(read_data(write("x.json", content))) == [
        ("a.jpg", ("một",)),
        ("b.jpg", ("hai",)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"a.jpg": "một", "a.jpg": {"captions": ["hai"]}, "a.jpg": ["ba"]}',
        '[{"image": "a.jpg", "caption": "một", "caption": "hai", "caption": ["ba"]}]',
        '{"image": "a.jpg", "captions": ["một"], "captions": ["hai", "ba"]}',
    ],
)
def test_a_key_that_is_repeated_loses_nothing(images, write, summary, text):
    images("a.jpg")
    assert summary(read_data(write("x.json", text))) == [("a.jpg", ("một", "hai", "ba"))]
