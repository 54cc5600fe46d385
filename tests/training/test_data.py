import shutil

import numpy as np
import pytest
from vireo_client.captions import CaptionedImage
from vireo_client.errors import DataError
from vireo_training.data import Pictures, decode_pictures, split_by_picture, training_batches


@pytest.fixture
def records(photo):
    return [CaptionedImage(photo(f"{n}.png", seed=n), (f"câu {n}", f"hai {n}")) for n in range(80)]


def test_splits_cover_everything_once_in_about_the_asked_shares(records):
    split = split_by_picture(records, 0.2, 0.3, seed=0)
    assert sorted(r.path for part in split[:3] for r in part) == sorted(r.path for r in records)
    assert 8 <= len(split.validation) <= 26
    assert 14 <= len(split.test) <= 36


def test_copies_of_a_picture_stay_on_one_side(records):
    copies = []
    for record in records[:30]:
        copy = record.path.with_name(f"copy-{record.path.name}")
        shutil.copy(record.path, copy)
        copies.append(CaptionedImage(copy, ("bản sao",)))
    split = split_by_picture(records + copies, 0.3, 0.3, seed=1)
    for part in split[:3]:
        names = {r.path.name for r in part}
        for name in names:
            twin = name.removeprefix("copy-")
            assert twin in names


def test_a_file_that_cannot_be_read_is_on_no_side_and_named(records):
    records[5].path.unlink()
    split = split_by_picture(records, 0.2, 0.2, seed=0)
    assert [s.where for s in split.unreadable] == [str(records[5].path)]
    sides = [*split.train, *split.validation, *split.test]
    assert len(sides) == len(records) - 1


def test_new_pictures_move_no_old_one(records):
    before = split_by_picture(records[:50], 0.2, 0.2, seed=0)
    after = split_by_picture(records, 0.2, 0.2, seed=0)
    assert {r.path for r in before.test} <= {r.path for r in after.test}


def test_unreadable_pictures_are_left_out_by_name(records, bundle, tmp_path):
    records[3].path.write_bytes(b"broken")
    records[7].path.unlink()
    decoded = decode_pictures(
        records[:10], bundle.config.image, side=96, scratch=tmp_path, label="test"
    )
    assert len(decoded.records) == len(decoded.pixels) == 8
    assert [s.where for s in decoded.skipped] == [str(records[3].path), str(records[7].path)]
    with pytest.raises(DataError, match="no picture could be read"):
        decode_pictures([records[3]], bundle.config.image, side=96, scratch=tmp_path, label="test")


def test_an_epoch_shows_every_picture_once_with_its_own_captions():
    pixels = np.arange(10, dtype=np.uint8).repeat(3 * 4 * 4).reshape(10, 3, 4, 4)
    ids = [[[0, 10 * n + c, 2] for c in range(3)] for n in range(10)]
    rng = np.random.default_rng(0)
    seen = []
    for batch in training_batches(
        Pictures(pixels, ids), 1, batch_size=5, captions_per_picture=2, rng=rng
    ):
        assert batch.pixels.shape == (5, 3, 4, 4)
        assert len(batch.input_ids) == 10
        for caption, row in zip(batch.input_ids, batch.picture, strict=True):
            assert caption[1].item() // 10 == batch.pixels[row, 0, 0, 0].item()
        assert len({tuple(r.tolist()) for r in batch.input_ids}) == 10  # no caption drawn twice
        seen += batch.pixels[:, 0, 0, 0].tolist()
    assert sorted(seen) == list(range(10))


def test_a_batch_larger_than_the_data_still_trains():
    pictures = Pictures(np.zeros((3, 3, 4, 4), np.uint8), [[[0, 5, 2]]] * 3)
    batches = list(
        training_batches(
            pictures, 1, batch_size=64, captions_per_picture=2,
            rng=np.random.default_rng(0),
        )
    )  # fmt: skip
    assert [len(b.pixels) for b in batches] == [3]
