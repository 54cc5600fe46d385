from pathlib import Path

import faiss
import numpy as np
import pytest
from vireo_client.errors import DataError, SearchIndexError
from vireo_client.index import kinds
from vireo_client.index.kinds import SearchSettings

ROWS, DIM = 2000, 32
BUILT = [name for name in kinds.KINDS if name != "flat"]


def clustered(rows, seed):
    """Unit vectors around forty directions, as embeddings are."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).standard_normal((40, DIM))
    vectors = centres[rng.integers(40, size=rows)] + rng.standard_normal((rows, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    path = tmp_path_factory.mktemp("kinds") / "vectors.npy"
    np.save(path, clustered(ROWS, 1))
    return np.load(path, mmap_mode="r")


@pytest.fixture(scope="module")
def built(vectors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("structures")
    made = {}
    for name in kinds.KINDS:
        path = None if name == "flat" else folder / f"{name}.faiss"
        made[name] = path, kinds.build(name, vectors, path)
    return made


@pytest.fixture(scope="module")
def opened(vectors, built):
    return {
        name: kinds.open_structure(settings["kind"], path, vectors, settings)
        for name, (path, settings) in built.items()
    }


def expected(queries, vectors, k, allowed=None):
    scores = queries @ np.asarray(vectors).T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(rows, truth):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(rows, truth, strict=True)])


@pytest.mark.parametrize("name", kinds.KINDS)
def test_a_kind_finds_what_it_promises_for_queries_that_are_not_in_it(name, vectors, built, opened):
    queries = clustered(300, 2)
    scores, rows = opened[name].search(queries, 10)
    assert built[name][1]["kind"] == name
    assert built[name][1]["recall@10"] >= 0.99
    assert recall(rows, expected(queries, vectors, 10)) >= 0.97
    exact = np.take_along_axis(queries @ vectors.T, rows, axis=1)
    np.testing.assert_allclose(scores, exact, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("name", kinds.KINDS)
def test_exact_search_misses_nothing(name, vectors, opened):
    queries = clustered(50, 3)
    rows = opened[name].search(queries, 10, settings=SearchSettings(exact=True))[1]
    np.testing.assert_array_equal(rows, expected(queries, vectors, 10))


@pytest.mark.parametrize("name", kinds.KINDS)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 1.0])
def test_rows_that_are_not_allowed_are_never_found(name, share, vectors, opened, monkeypatch):
    monkeypatch.setattr("vireo_client.index.kinds.structure.SCAN_ROWS", 50)
    allowed = np.random.default_rng(7).random(ROWS) < share
    queries = clustered(50, 4)
    _, rows = opened[name].search(queries, 10, allowed=allowed)
    count = min(10, int(allowed.sum()))
    assert (rows[:, count:] == -1).all()
    assert allowed[rows[rows >= 0]].all()
    if count:
        assert recall(rows[:, :count], expected(queries, vectors, count, allowed)) >= 0.96


@pytest.mark.parametrize("name", kinds.KINDS)
def test_more_matches_than_vectors_and_a_query_that_is_no_number(name, opened):
    queries = np.stack([clustered(1, 1)[0], np.full(DIM, np.nan, np.float32)])
    scores, rows = opened[name].search(queries, ROWS + 5)
    assert rows.shape == scores.shape == (2, ROWS + 5)
    assert (rows[:, ROWS:] == -1).all()
    assert np.isneginf(scores[rows < 0]).all()
    assert (rows[1] == -1).all()
    found = rows[0][rows[0] >= 0]
    assert len(found) == len(set(found)) >= 10


@pytest.mark.parametrize("name", [name for name in BUILT if name != "hnsw"])
def test_a_build_is_the_same_for_the_same_seed(name, vectors, built, tmp_path):
    path, settings = built[name]
    again = kinds.build(name, vectors, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert {**again, "seconds": 0} == {**settings, "seconds": 0}


@pytest.mark.parametrize("name", BUILT)
def test_a_damaged_file_is_named(name, vectors, built, tmp_path):
    path, settings = built[name]
    whole = path.read_bytes()
    damaged = tmp_path / "images-3-ab.faiss"
    for content in (b"", whole[: len(whole) // 2], b"no index at all", whole[:12]):
        damaged.write_bytes(content)
        with pytest.raises(SearchIndexError, match=r"images-3-ab\.faiss: cannot be read"):
            kinds.open_structure(name, damaged, vectors, settings)
    damaged.unlink()
    with pytest.raises(SearchIndexError, match=r"images-3-ab\.faiss: missing"):
        kinds.open_structure(name, damaged, vectors, settings)


def test_a_file_of_other_vectors_is_refused(vectors, built):
    path, settings = built["sq8"]
    with pytest.raises(SearchIndexError, match="2000 vectors of size 32, its segment has 99"):
        kinds.open_structure("sq8", path, vectors[:99], settings)


@pytest.mark.parametrize("name", ["ivf", "ivfpq", "rabitq", "hnsw"])
def test_too_few_vectors_fall_to_flat_with_a_note(name, vectors, tmp_path):
    settings = kinds.build(name, vectors[:100], tmp_path / "none")
    assert settings["kind"] == "flat"
    assert name in settings["note"]
    assert not (tmp_path / "none").exists()


def test_wrong_arguments_are_named(vectors, opened, tmp_path):
    flat = opened["flat"]
    with pytest.raises(DataError, match="k is 0"):
        flat.search(clustered(1, 1), 0)
    with pytest.raises(DataError, match=r"shape \[1, 8\]; the vectors have size 32"):
        flat.search(np.ones((1, 8), np.float32), 1)
    with pytest.raises(DataError, match="bool of 2000"):
        flat.search(clustered(1, 1), 1, allowed=np.ones(5, bool))
    with pytest.raises(DataError, match="'tree' is no kind of index; there are flat, hnsw"):
        kinds.build("tree", vectors, tmp_path / "x")
    with pytest.raises(DataError, match="target_recall is 2"):
        kinds.build("flat", vectors, None, target_recall=2)
    with pytest.raises(DataError, match="nprobe is 0"):
        SearchSettings(nprobe=0)


def test_a_search_leaves_the_threads_of_faiss_as_they_were(opened):
    before = faiss.omp_get_max_threads()
    try:
        for threads in (1, 3):
            faiss.omp_set_num_threads(threads)
            for name in kinds.KINDS:
                opened[name].search(clustered(3, 1), 5)
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)


def test_settings_of_one_search_change_no_other(vectors, opened):
    queries = clustered(100, 6)
    truth = expected(queries, vectors, 10)
    for name in ("ivf", "ivfpq", "rabitq"):
        before = opened[name].search(queries, 10)[1]
        poor = opened[name].search(queries, 10, settings=SearchSettings(nprobe=1))[1]
        assert recall(poor, truth) < recall(before, truth)
        np.testing.assert_array_equal(opened[name].search(queries, 10)[1], before)


@pytest.mark.parametrize("name", BUILT)
def test_vectors_that_are_no_numbers_are_refused(name, vectors, tmp_path):
    broken = np.array(vectors)
    broken[1234, 5] = np.nan
    with pytest.raises(DataError, match="NaN"):
        kinds.build(name, broken, tmp_path / "x.faiss")


def test_a_folder_that_does_not_take_the_file_is_named(vectors, tmp_path):
    with pytest.raises(SearchIndexError, match=r"gone/x\.faiss: sq8 over 2000 vectors cannot be"):
        kinds.build("sq8", vectors, tmp_path / "gone" / "x.faiss")


def test_queries_of_the_caller_join_the_tuning(vectors, tmp_path):
    far = np.random.default_rng(9).standard_normal((200, DIM)).astype(np.float32)
    near = kinds.build("ivf", vectors, tmp_path / "near", queries=None)
    with_far = kinds.build("ivf", vectors, tmp_path / "far", queries=far)
    assert with_far["nprobe"] > near["nprobe"]
    assert with_far["queries"] == near["queries"] + 200


def test_progress_is_reported_from_training_to_tuning(vectors, tmp_path):
    seen = []
    kinds.build("ivf", vectors, tmp_path / "x", progress=lambda *step: seen.append(step))
    assert seen == [("train", 0, 1), ("train", 1, 1), ("add", 2000, 2000), *seen[3:]]
    assert [step[0] for step in seen[3:]] == ["tune", "tune"]


def test_auto_takes_size_and_memory_into_account(vectors, tmp_path):
    assert kinds.choose(5000, 512) == "flat"
    assert kinds.choose(100_000, 512) == "ivfpq"
    assert kinds.choose(100_000, 16) == "ivf"
    assert kinds.choose(1_000_000, 512, memory=10 << 20) == "flat"
    assert kinds.choose(1_000_000, 512, memory=200 << 20) == "ivfpq"
    assert kinds.build("auto", vectors, tmp_path / "none")["kind"] == "flat"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux names the maps")
@pytest.mark.parametrize("name", BUILT)
def test_an_open_structure_is_a_memory_map(name, vectors, built):
    """The file is mapped, not read: it is among the process's maps while it is open."""
    path, settings = built[name]
    structure = kinds.open_structure(name, path, vectors, settings)
    assert str(path) in Path("/proc/self/maps").read_text()
    del structure
