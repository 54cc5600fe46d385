import shutil

import pytest
from vireo_client.captions import CaptionedImage
from vireo_training.data.split import hold_out, split_by_image


@pytest.fixture
def records(photo):
    return [CaptionedImage(photo(f"{n}.png", seed=n), (f"câu {n}", f"hai {n}")) for n in range(80)]


def _copy(record, *captions):
    copy = record.path.with_name(f"copy-{record.path.name}")
    shutil.copy(record.path, copy)
    return CaptionedImage(copy, captions)


@pytest.mark.parametrize(
    ("count", "sizes"), [(80, (40, 16, 24)), (41, (21, 8, 12)), (3, (1, 1, 1)), (1, (1, 0, 0))]
)
def test_splits_cover_everything_once_in_the_requested_shares(records, count, sizes):
    split = split_by_image(records[:count], 0.2, 0.3, seed=0)
    parts = split.train, split.validation, split.test
    assert sorted(r.path for part in parts for r in part) == sorted(r.path for r in records[:count])
    assert tuple(map(len, parts)) == sizes


def test_copies_of_an_image_are_one_record_with_all_captions(records):
    copies = [_copy(record, "bản sao", f"câu  {n}") for n, record in enumerate(records[:30])]
    split = split_by_image(records + copies, 0.3, 0.3, seed=1)
    found = {r.path: r.captions for part in split[:3] for r in part}
    assert set(found) == {r.path for r in records}
    assert found[records[4].path] == ("câu 4", "hai 4", "bản sao")
    assert found[records[40].path] == ("câu 40", "hai 40")


def test_an_unreadable_file_is_in_no_part_and_is_named(records):
    records[5].path.unlink()
    split = split_by_image(records, 0.2, 0.2, seed=0)
    assert [s.where for s in split.unreadable] == [str(records[5].path)]
    sides = [*split.train, *split.validation, *split.test]
    assert len(sides) == len(records) - 1


def test_new_images_move_no_old_one_within_the_same_bounds(records):
    before = split_by_image(records[:50], 0.2, 0.2, seed=0)
    after = split_by_image(records, 0.2, 0.2, seed=0, bounds=before.bounds)
    for part in ("train", "validation", "test"):
        old, new = ({r.path for r in getattr(each, part)} for each in (before, after))
        assert new & {r.path for r in records[:50]} == old
    assert len(after.test) > len(before.test)


def test_images_that_validation_holds_do_not_train(records):
    held = [_copy(records[0], "giữ lại"), records[1]]
    split = hold_out(records[:10], held)
    assert {r.path for r in split.train} == {r.path for r in records[2:10]}
    assert [r.path for r in split.validation] == [r.path for r in held]
    assert [s.where for s in split.unreadable] == [str(r.path) for r in records[:2]]
    assert f"in the validation set as well, as {held[0].path}" in split.unreadable[0].reason


def _named(record, split):
    return CaptionedImage(record.path, record.captions, split)


def test_splits_that_the_data_names_are_kept(records):
    names = ["train", "validation", "test"]
    named = [_named(record, names[n % 3]) for n, record in enumerate(records[:60])]
    split = split_by_image(named + records[60:], 0.3, 0.3, seed=0)
    for name in names:
        part = getattr(split, name)
        assert [r for r in part if r.split] == [r for r in named if r.split == name]
    assert sum(map(len, split[:3])) == 80
    assert all(any(r.split is None for r in part) for part in split[:3])


def test_a_copy_in_two_splits_is_held_out(records):
    copy = _copy(records[0], "bản sao")
    split = split_by_image([_named(records[0], "train"), _named(copy, "test")], 0, 0, seed=0)
    assert [r.captions for r in split.test] == [("câu 0", "hai 0", "bản sao")]
    assert split.train == []


def test_held_out_data_validates_on_its_validation_part_and_tests_stay_out_of_training(records):
    data = [_named(records[n], s) for n, s in enumerate(("train", "test", "validation", None))]
    other = [_named(records[10], "validation"), _named(records[11], "test")]
    split = hold_out(data, other)
    assert [r.path for r in split.train] == [records[0].path, records[3].path]
    assert [r.path for r in split.validation] == [records[10].path]
    assert [r.path for r in split.test] == [records[1].path]
    assert [r.path for r in hold_out(data, [other[1]]).validation] == [records[11].path]
    assert hold_out(data, data).unreadable == []
