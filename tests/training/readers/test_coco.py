import unicodedata

import pytest
from vireo_client.errors import DataError
from vireo_training.readers import read_data


def coco(images, annotations):
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations}


def one_caption(name, caption="x"):
    return coco([{"id": 1, "file_name": name}], [{"image_id": 1, "caption": caption}])


def test_annotations_are_joined_by_image(images, write, summary):
    images("images/1.jpg", "images/2.jpg")
    path = write(
        "train.json",
        coco(
            [{"id": 7, "file_name": "1.jpg"}, {"id": 8, "file_name": "2.jpg"}],
            [
                {"id": 1, "image_id": 8, "caption": "hai con mèo"},
                {"id": 2, "image_id": 7, "caption": "một con chó"},
                {"id": 3, "image_id": 8, "caption": "đôi mèo"},
            ],
        ),
    )
    captions = read_data(path)
    assert summary(captions) == [("2.jpg", ("hai con mèo", "đôi mèo")), ("1.jpg", ("một con chó",))]
    assert captions.skipped == []


def test_ktvic_names_images_by_filename_and_its_segmented_captions_are_not_read(
    images, write, summary
):
    images("train-images/a.jpg")
    annotation = {"image_id": 1, "caption": "hai học sinh", "segment_caption": "hai học_sinh"}
    path = write("train_data.json", coco([{"id": 1, "filename": "a.jpg"}], [annotation]))
    captions = read_data(f"{path}@{path.parent / 'train-images'}")
    assert summary(captions) == [("a.jpg", ("hai học sinh",))]


def test_an_id_may_be_a_number_here_and_a_string_there(images, write):
    images("a.jpg")
    document = coco([{"id": "1", "file_name": "a.jpg"}], [{"image_id": 1, "caption": "x"}])
    assert len(read_data(write("x.json", document)).records) == 1


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_file", ["NFC", "NFD"])
def test_names_are_found_in_both_forms(images, write, on_disk, in_file):
    images(unicodedata.normalize(on_disk, "images/Chợ nổi.jpg"))
    path = write("x.json", one_caption(unicodedata.normalize(in_file, "Chợ nổi.jpg")))
    assert read_data(path).records[0].path.is_file()


def test_broken_entries_are_skipped_by_name(images, write, summary, reasons):
    images("a.jpg", "b.jpg")
    path = write(
        "x.json",
        coco(
            [
                {"id": 1, "file_name": "a.jpg"},
                {"id": 2},
                "no object",
                {"id": 3, "file_name": "gone.jpg"},
                {"id": 1, "file_name": "other.jpg"},
                {"id": 4, "file_name": "b.jpg"},
                {"id": None, "file_name": "b.jpg"},
            ],
            [
                {"image_id": 1, "caption": "tốt"},
                {"image_id": 1, "caption": "  "},
                {"image_id": 1, "caption": 5},
                {"image_id": 1},
                {"image_id": 9, "caption": "x"},
                {"image_id": 3, "caption": "x"},
                None,
            ],
        ),
    )
    captions = read_data(path)
    assert summary(captions) == [("a.jpg", ("tốt",))]
    found = reasons(captions)
    expected = [
        "x.json: images[1]: names no image",
        "x.json: images[2]: not an object",
        "x.json: images[4]: id 1 is a.jpg already",
        'x.json: images[6]: "id" must be',
        "x.json: annotations[1]: 1 empty caption",
        "x.json: annotations[2]: 1 caption(s) that are no text",
        "x.json: annotations[3]: has no caption",
        'x.json: annotations[4]: "images" has no id 9',
        "x.json: annotations[5]: no such image: gone.jpg",
        "x.json: annotations[6]: not an object",
        "x.json: image 4: no annotation describes b.jpg",
    ]
    assert len(found) == len(expected)
    for skip, start in zip(found, expected, strict=True):
        assert skip.startswith(start)


def test_a_repeated_caption_is_left_out_and_is_no_skip(images, write, summary):
    images("a.jpg")
    texts = ["Chợ nổi", unicodedata.normalize("NFD", "Chợ  nổi")]
    annotations = [{"image_id": 1, "caption": text} for text in texts]
    path = write("x.json", coco([{"id": 1, "file_name": "a.jpg"}], annotations))
    captions = read_data(path)
    assert summary(captions) == [("a.jpg", ("Chợ nổi",))]
    assert captions.skipped == []
    (item,) = captions.left_out
    assert item.reason.startswith("repeats a caption")


def test_images_in_another_folder_are_an_error_with_advice(write):
    with pytest.raises(DataError, match=r"no usable \w+ with a caption.*x\.json@FOLDER"):
        read_data(write("x.json", one_caption("a.jpg")))


def test_a_format_that_is_forced_must_fit(write):
    path = write("x.json", [{"file_name": "a.jpg", "caption": "x"}])
    with pytest.raises(DataError, match=r'x\.json: not an object with the lists "images"'):
        read_data(path, file_format="coco")


def test_splits_of_the_images_are_read(images, write):
    images("a.jpg", "b.jpg")
    content = {
        "images": [
            {"id": 1, "file_name": "a.jpg", "split": "val"},
            {"id": "2", "file_name": "b.jpg"},
        ],
        "annotations": [
            {"image_id": 1, "caption": "một"},
            {"image_id": 2, "captions": ["hai", "ba"]},
        ],
    }
    records = read_data(write("x.json", content)).records
    assert [record.split for record in records] == ["validation", None]
    assert [record.captions for record in records] == [("một",), ("hai", "ba")]
