import pytest
from vireo_client.errors import DataError
from vireo_training.readers import read_data, read_mixture

pandas = pytest.importorskip("pandas")


def test_a_data_frame_is_a_source_as_its_table_would_be(images, summary, tmp_path):
    paths = [str(path) for path in images("1.jpg", "2.jpg", "3.jpg")]
    frame = pandas.DataFrame(
        {"ảnh": [*paths, str(tmp_path / "gone.jpg")], "caption": ["một", "hai", None, "bốn"],
         "split": ["train", "test", "train", "train"]}
    )  # fmt: skip
    found = read_data(frame)
    assert summary(found) == [("1.jpg", ("một",)), ("2.jpg", ("hai",))]
    assert [record.split for record in found.records] == ["train", "test"]
    assert [skip.where for skip in found.skipped] == ["data frame: row[2]", "data frame: row[3]"]
    assert len(read_mixture([frame]).records) == 2


def test_a_frame_without_the_columns_is_an_error():
    with pytest.raises(DataError, match="data frame"):
        read_data(pandas.DataFrame({"a": [1]}))
