import sys
from pathlib import Path

import pytest
from vireo_client.errors import DataError, MissingExtraError
from vireo_client.images import open_image
from vireo_training.readers import read_data


@pytest.fixture
def parquet(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    import pyarrow.parquet as pq

    def write(name: str, columns: dict[str, list[object]]) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    return write


def test_paths_with_a_list_of_captions(images, parquet, summary, reasons):
    images("images/1.jpg")
    path = parquet(
        "x.parquet",
        {
            "image": ["1.jpg", "9.jpg", None, "1.jpg"],
            "caption": [["một", "hai"], ["x"], ["x"], None],
        },
    )
    captions = read_data(path)
    assert summary(captions) == [("1.jpg", ("một", "hai"))]
    assert [skip.split(": ")[1] for skip in reasons(captions)] == ["row 1", "row 2", "row 3"]
    assert not (path.parent / "vireo-pictures").exists()


@pytest.mark.parametrize("bare", [False, True])
def test_embedded_images_are_unpacked(images, parquet, bare):
    data = [path.read_bytes() for path in images("1.jpg", "2.jpg")]
    cells = data if bare else [{"bytes": each, "path": "a.jpg"} for each in data]
    path = parquet("x.parquet", {"image": cells, "caption_0": ["một", "hai"]})
    records = read_data(path).records
    assert [record.path.read_bytes() for record in records] == data
    assert [record.captions for record in records] == [("một",), ("hai",)]
    assert open_image(records[0].path).size == (120, 90)


@pytest.mark.parametrize("cell", ['["c1", "c2"]', ["c1", "c2"], [{"raw": "c1"}, {"raw": "c2"}]])
@pytest.mark.parametrize("embedded", [True, False])
def test_lists_in_cells_and_splits_are_read(images, parquet, cell, embedded):
    (image,) = images("1.jpg")
    name = image.read_bytes() if embedded else "1.jpg"
    path = parquet("x.parquet", {"image": [name], "sentences": [cell], "split": ["val"]})
    for _ in ("read", "unpacked already"):
        (record,) = read_data(path).records
        assert (record.captions, record.split) == (("c1", "c2"), "validation")


def test_a_folder_of_shards_is_one_set(images, parquet, summary, reasons, tmp_path):
    images("1.jpg", "2.jpg")
    parquet("a.parquet", {"image": ["1.jpg"], "caption": ["một"]})
    parquet("b.parquet", {"image": ["2.jpg", "1.jpg"], "caption": ["hai", "ba"]})
    (tmp_path / "c.parquet").write_bytes(b"PAR1 broken")
    captions = read_data(tmp_path)
    assert summary(captions) == [("1.jpg", ("một", "ba")), ("2.jpg", ("hai",))]
    (skip,) = reasons(captions)
    assert "not a readable parquet file" in skip


def test_a_file_without_the_columns_is_an_error_that_lists_its_columns(parquet):
    with pytest.raises(DataError, match=r"column of images .* it has a, b"):
        read_data(parquet("x.parquet", {"a": [1], "b": [2]}))


def test_without_pyarrow_the_extra_is_named(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"vireo\[data\]"):
        read_data(write("x.parquet", b"PAR1"))
