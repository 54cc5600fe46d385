import json

import pytest
from vireo_training.readers import read_data

ENTRIES = [
    {"filename": "1.jpg", "sentences": [{"raw": "một", "tokens": ["một"]}], "split": "train"},
    {"filename": "2.jpg", "sentences": [{"raw": "hai"}, {"raw": "ba"}], "split": "restval"},
    {"filename": "3.jpg", "sentences": [{"raw": "bốn"}], "split": "val"},
    {"filename": "4.jpg", "sentences": [{"raw": "năm"}], "split": "test"},
]
SPLITS = ["train", "train", "validation", "test"]


@pytest.mark.parametrize("indent", [None, 1])
def test_captions_and_splits_are_read(images, write, summary, indent):
    images("images/1.jpg", "images/2.jpg", "images/3.jpg", "images/4.jpg")
    content = json.dumps({"images": ENTRIES, "dataset": "flickr30k"}, indent=indent)
    captions = read_data(write("dataset_flickr30k.json", content))
    assert summary(captions)[:2] == [("1.jpg", ("một",)), ("2.jpg", ("hai", "ba"))]
    assert [record.split for record in captions.records] == SPLITS


@pytest.mark.parametrize("named", ["", "@{}/coco", "@{}/coco/val2014"])
def test_filepath_is_the_folder(images, write, summary, tmp_path, named):
    images("coco/val2014/1.jpg" if named else "val2014/1.jpg", "1.jpg")
    path = write("dataset_coco.json", {"images": [ENTRIES[0] | {"filepath": "val2014"}]})
    (record,) = read_data(f"{path}{named.format(tmp_path)}").records
    assert record.path.parent.name == "val2014"


def test_broken_entries_are_skipped_by_number(images, write, reasons):
    images("1.jpg")
    content = {
        "images": [ENTRIES[0], {"filename": "1.jpg", "sentences": []}, 3, {"sentences": ["x"]}]
    }
    found = reasons(read_data(write("x.json", content)))
    assert [reason.split(": ")[1] for reason in found] == ["images[1]", "images[2]", "images[3]"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "captions.jsonl"])
def test_every_format_carries_splits(images, write, name):
    images("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    rows = [
        {"image": e["filename"], "caption": e["sentences"][0]["raw"], "split": e["split"]}
        for e in ENTRIES
    ]
    lines = {
        "jsonl": "\n".join(json.dumps(row) for row in rows),
        "json": json.dumps(rows),
        "csv": "image,caption,split\n" + "\n".join(",".join(row.values()) for row in rows),
    }
    captions = read_data(write(name, lines[name.partition(".")[2]]))
    assert [record.split for record in captions.records] == SPLITS


def test_an_image_in_two_splits_keeps_the_first_and_names_the_other(images, write, reasons):
    images("1.jpg")
    rows = [
        {"image": "1.jpg", "caption": c, "split": s} for c, s in (("a", "test"), ("b", "train"))
    ]
    captions = read_data(write("x.json", rows))
    assert [(r.captions, r.split) for r in captions.records] == [(("a",), "test")]
    assert reasons(captions) == ["x.json: [1]: its image is in the test split already"]


def test_an_unknown_split_is_none_and_is_said(images, write, caplog):
    images("1.jpg")
    path = write("x.json", [{"image": "1.jpg", "caption": "a", "split": "fold3"}])
    assert read_data(path).records[0].split is None
    assert "fold3" in caplog.text
