import pytest
from vireo_training.readers import read_data
from vireo_training.readers.evjvqa import language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("có bao nhiêu người đang đứng trước cửa hàng?", "vi"),
        ("cái xe màu gì?", "vi"),
        ("how many people are standing in front of the shop?", "en"),
        ("what is sold in front of Chợ Bến Thành on a busy morning?", "en"),
        ("店の前に何人いますか？", "ja"),
        ("バイク", "ja"),
        ("", "en"),
    ],
)
def test_language_follows_from_script(text, language):
    assert language_of(text) == language


def evjvqa(*annotations):
    images = [{"id": 1, "filename": "00000000001.jpg"}]
    return {"images": images, "annotations": [{"image_id": 1, **each} for each in annotations]}


def test_vietnamese_answers_become_captions(images, write, summary):
    images("00000000001.jpg")
    path = write(
        "evjvqa_train.json",
        evjvqa(
            {"question": "what is the man selling?", "answer": "the man sells fruit"},
            {"question": "người đàn ông đang bán gì?", "answer": "người đàn ông bán trái cây"},
            {"question": "ai mặc áo đỏ?", "answer": "co gai ngoi giua"},
            {"question": "áo màu gì?", "answer": "màu đỏ"},
            {"question": "男性は何を売っていますか？", "answer": "果物を売っています"},
        ),
    )
    captions = read_data(path)
    expected = ("người đàn ông bán trái cây", "co gai ngoi giua")
    assert summary(captions) == [("00000000001.jpg", expected)]
    assert captions.skipped == []
    assert [item.reason for item in captions.left_out] == [
        "is in another language (en)",
        "is an answer of fewer than 3 words",
        "is in another language (ja)",
    ]


def test_a_language_tag_is_believed(images, write, summary):
    images("00000000001.jpg")
    path = write(
        "x.json",
        evjvqa(
            {"question": "ao mau gi?", "answer": "ao mau do tuoi", "language": "vi"},
            {"question": "áo màu gì?", "answer": "chiếc áo màu đỏ", "language": "en"},
        ),
    )
    assert summary(read_data(path)) == [("00000000001.jpg", ("ao mau do tuoi",))]


def test_broken_annotations_are_skipped(images, write, reasons):
    images("00000000001.jpg")
    path = write(
        "x.json",
        evjvqa(
            {"question": "áo màu gì?", "answer": "chiếc áo màu đỏ"},
            {"question": "áo màu gì?", "answer": None},
            {"question": "áo màu gì?", "answer": "  "},
            {"question": 3, "answer": "x"},
            {"question": "áo màu gì?", "answer": "chiếc áo màu đỏ", "image_id": 2},
        ),
    )
    assert reasons(read_data(path)) == [
        'x.json: annotations[1]: "question" and "answer" must be texts',
        "x.json: annotations[2]: 1 empty caption(s)",
        'x.json: annotations[3]: "question" and "answer" must be texts',
        'x.json: annotations[4]: "images" has no id 2',
    ]
