import pytest
from vireo_client.captions import read_captions
from vireo_client.fields import captions_in_cell


@pytest.mark.parametrize(
    ("cell", "captions"),
    [
        ('["c1", "c2"]', ["c1", "c2"]),
        ("['c1', \"c2's\"]", ["c1", "c2's"]),
        (" ['c1' 'c2'\n 'c3'] ", ["c1", "c2", "c3"]),
        ("['một\\d']", ["một\\d"]),
        ("['c1', None]", ["c1", None]),
        ('[{"raw": "c1"}, {"raw": "c2"}]', ["c1", "c2"]),
        ("[]", [""]),
        ("[ảnh] một con chó", ["[ảnh] một con chó"]),
        ("[ảnh] một con chó [mờ]", ["[ảnh] một con chó [mờ]"]),
        ("[một con chó]", ["[một con chó]"]),
        ("['c1'", ["['c1'"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[" * 100_000 + "]" * 100_000, ["[" * 100_000 + "]" * 100_000]),
        ("một con chó", ["một con chó"]),
    ],
)
def test_a_cell_that_holds_a_list_is_several_captions(cell, captions):
    assert captions_in_cell(cell) == captions


@pytest.mark.parametrize(
    "record",
    [
        {"file_name": "a.jpg", "text": "một"},
        {"filepath": "a.jpg", "captions": "một"},
        {"image_name": "a.jpg", "caption": ["một"]},
        {"filename": "a.jpg", "sentences": ["một"]},
        {"filename": "a.jpg", "sentences": [{"raw": "một", "tokens": ["một"]}]},
        {"image": "a.jpg", "captions": None, "caption": "một"},
        {"Image": "a.jpg", "caption_0": "một", "caption_1": None},
    ],
)
def test_lines_know_every_name_of_a_field(data_set, record):
    path = data_set(record, images=("a.jpg",))
    assert [r.captions for r in read_captions(path).records] == [("một",)]
