"""Examples that fuzzing found, each read as it was found."""

import random
import shutil

import pytest
from fuzz import index
from fuzz.files import SEEDS, SOUND, try_example
from fuzz.index_damages import DAMAGES
from fuzz.sound_index import Sound

FILES = sorted(seed for kind in SOUND for seed in SEEDS.glob(f"{kind}/*"))


@pytest.mark.parametrize("seed", FILES, ids=lambda seed: seed.name)
def test_a_damaged_file_is_read_or_is_an_error_of_ours(seed):
    if seed.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra `data` is not installed")
    assert try_example(seed.name.partition("-")[2], seed.read_bytes()) is None


INDEXES = sorted(index.SEEDS.glob("*.zip"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    place, made = tmp_path_factory.mktemp("indexes"), {}

    def of_kind(kind):
        if kind not in made:
            made[kind] = Sound(place, kind)
        return made[kind]

    return of_kind


@pytest.mark.parametrize("seed", INDEXES, ids=lambda seed: seed.stem)
def test_a_damaged_index_answers_rightly_or_is_an_error_of_ours(seed, sound, tmp_path):
    assert index.try_seed(seed, sound(index.kind_of(seed)), tmp_path) == []


@pytest.mark.parametrize("part", DAMAGES)
def test_a_few_damages_of_an_index_are_answered_rightly_or_refused(part, sound, tmp_path):
    whole = sound("hnsw")
    for number in range(8):
        folder = tmp_path / f"{number}"
        shutil.copytree(whole.folder, folder)
        sealed = DAMAGES[part](folder, random.Random(number))
        _, wrong = index.try_example(folder, whole.bundle, whole.right, sealed)
        assert wrong == []
