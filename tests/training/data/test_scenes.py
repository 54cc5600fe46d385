import json

import pytest
from vireo_client.captions import read_captions
from vireo_training.data.scenes import UNSEEN_PAIRS, generate_scenes, write_scenes


def _lines(folder):
    return [json.loads(line) for line in (folder / "captions.jsonl").open(encoding="utf-8")]


def test_one_seed_gives_the_same_files_and_another_does_not(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_scenes(tmp_path / name, "train", 12, seed)
    a, b, c = ({p.name: p.read_bytes() for p in sorted((tmp_path / n).rglob("*.*"))} for n in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a != c


def test_test_combinations_are_never_trained_on():
    train = {s.combination for s in generate_scenes("train", 3000, seed=0)}
    test = list(generate_scenes("test", 400, seed=5))
    assert len(set(test)) == 400
    assert not train & {s.combination for s in test}
    shown = {(g.kind, g.colour) for s in generate_scenes("train", 3000, 1) for g in s.groups}
    assert not shown & UNSEEN_PAIRS
    assert sum(s.shows_unseen_pair for s in test) > 50


def test_test_captions_say_everything_and_differ(tmp_path):
    write_scenes(tmp_path, "test", 40, seed=3)
    for line in _lines(tmp_path):
        assert len(set(line["captions"])) == 4
        for caption in line["captions"]:
            lower = caption.lower()
            assert line["scene"]["background"] in lower
            for group in line["scene"]["groups"]:
                for key in ("kind", "colour", "size", "place"):
                    assert group[key] in lower


def test_training_captions_include_short_ones_that_are_true(tmp_path):
    write_scenes(tmp_path, "train", 60, seed=3)
    for line in _lines(tmp_path):
        groups = line["scene"]["groups"]
        assert len(line["captions"]) == 7
        for caption in line["captions"][4:]:
            named = [g for g in groups if f"{g['kind']} " in f"{caption} "]
            assert named
            assert all(g["colour"] in caption for g in named[:1]) or len(groups) == 2


def test_the_reader_of_real_data_reads_scenes(tmp_path):
    write_scenes(tmp_path, "train", 10, seed=0)
    captions = read_captions(tmp_path)
    assert len(captions.records) == 10
    assert captions.skipped == []


def test_an_unknown_split_is_an_error():
    with pytest.raises(ValueError, match="'train' or 'test'"):
        next(generate_scenes("validation", 1, 0))
