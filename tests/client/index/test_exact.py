import threading

import faiss
import numpy as np
import pytest
from support.small_index import DIM, new_image, unit
from vireo_client.errors import DataError
from vireo_client.index import Index, IndexWriter
from vireo_client.index import threads as module
from vireo_client.index.exact import nearest_rows


@pytest.fixture
def index(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image(f"{n}.jpg", n, captions=1) for n in range(1, 60)])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        yield index


_ROWS = np.stack([unit(n) for n in range(3)])


class _Recorder:
    """FAISS's search, which notes how many threads it may use."""

    def __init__(self, monkeypatch):
        self.threads = []
        self._plain = faiss.knn_inner_product
        monkeypatch.setattr(faiss, "knn_inner_product", self.search)

    def search(self, *words):
        self.threads.append(faiss.omp_get_max_threads())
        return self._plain(*words)


@pytest.mark.parametrize("queries", [1, 19, 20, 100])
def test_a_search_leaves_the_threads_of_faiss_as_they_were(index, queries):
    before = faiss.omp_get_max_threads()
    try:
        for threads in (1, 2, 3):
            faiss.omp_set_num_threads(threads)
            index.search_images(np.stack([unit(n) for n in range(queries)]), 5)
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)


def test_a_search_that_fails_leaves_the_threads_of_faiss_as_they_were(index, monkeypatch):
    def fail(*_):
        raise RuntimeError("bad_alloc")

    monkeypatch.setattr(faiss, "knn_inner_product", fail)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(3)
        with pytest.raises(RuntimeError):
            nearest_rows(_ROWS, unit(1)[None], 1)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_a_search_takes_a_thread_a_query_and_no_more_than_the_caller_allows(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    before, recorder = faiss.omp_get_max_threads(), _Recorder(monkeypatch)
    try:
        for allowed in (2, 8):
            faiss.omp_set_num_threads(allowed)
            for queries in (1, 3, 20):
                nearest_rows(_ROWS, np.repeat(unit(7)[None], queries, 0), 1)
    finally:
        faiss.omp_set_num_threads(before)
    assert recorder.threads == [1, 2, 2, 1, 3, 4]


def test_a_search_changes_nothing_for_other_threads(monkeypatch):
    """Another thread asks FAISS while this one is in the middle of a search."""
    seen = []

    class Paused(_Recorder):
        def search(self, *words):
            for _ in range(2):  # a thread that is new, and one that was there before
                asking = threading.Thread(target=lambda: seen.append(faiss.omp_get_max_threads()))
                asking.start()
                asking.join()
            resident_asks.set()
            assert resident_answered.wait(10)
            return super().search(*words)

    resident_asks, resident_answered, ready = (threading.Event() for _ in range(3))

    def resident():
        faiss.omp_set_num_threads(3)
        ready.set()
        assert resident_asks.wait(10)
        seen.append(faiss.omp_get_max_threads())
        resident_answered.set()

    before, default = faiss.omp_get_max_threads(), []
    probe = threading.Thread(target=lambda: default.append(faiss.omp_get_max_threads()))
    probe.start()
    probe.join()
    thread = threading.Thread(target=resident)
    thread.start()
    assert ready.wait(10)
    recorder = Paused(monkeypatch)
    nearest_rows(_ROWS, unit(7)[None], 1)
    thread.join()
    assert recorder.threads == [1]
    assert seen == [*default, *default, 3]
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize("shape", [(1, DIM + 1), (DIM,), (1, 1, DIM)])
def test_queries_of_another_size_are_refused(index, shape):
    with pytest.raises(DataError, match=f"one row of size {DIM} a query"):
        index.search_images(np.zeros(shape, np.float32), 5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_query_without_numbers_is_an_error(index, value):
    queries = np.zeros((2, DIM), np.float32)
    queries[1, 3] = value
    with pytest.raises(DataError, match="no number"):
        index.search_images(queries, 5)


def test_more_rows_than_a_statement_takes_values_are_looked_up(index):
    catalogue, many = index._opened.catalogue, range(40_000)  # SQLite's own limit is 32,766
    images, captions = catalogue.images(many).rows, catalogue.captions(many).rows
    assert [images[n].path for n in range(1, 60)] == [f"{n}.jpg" for n in range(1, 60)]
    assert [captions[n].text for n in range(1, 60)] == [f"{n}.jpg câu 0" for n in range(1, 60)]
    assert len(images) == len(captions) == 59


@pytest.mark.parametrize("queries", [1, 25])
@pytest.mark.parametrize("k", [1, 3, 5, 20, 120, 500])
def test_of_equal_scores_the_lowest_rows_are_found(queries, k):
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((500, DIM)).astype(np.float32)
    rows[100:200] = rows[100]
    query = 0.9 * rows[300] + 0.5 * rows[100]  # row 300 is the best, then come 100 others
    allowed = np.ones(500, np.bool_)
    allowed[104] = False
    for mask in (None, allowed):
        scores, found = nearest_rows(rows, np.repeat(query[None], queries, 0), k, mask)
        assert found.shape == (queries, k)
        exact = (rows.astype(np.float64) * query).sum(axis=1)
        order = np.lexsort((np.arange(500), -exact))
        if mask is not None:
            order = order[order != 104]
        assert np.array_equal(found[:, : len(order)], np.repeat(order[None, :k], queries, 0))
        assert np.all(np.diff(scores[:, : len(order)], axis=1) <= 0)


def test_an_index_of_one_vector_many_times_gives_the_first_ids(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        for turn in range(3):
            writer.add([new_image(f"{turn}-{n}.jpg", 1) for n in range(50)])
            writer.save()
        writer.remove(["0-3.jpg", "1-0.jpg"])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        for k in (1, 10, 60, 200):
            found = index.search_images(unit(1)[None], k)[0]
            expected = [n for n in range(1, 151) if n not in (4, 51)][:k]
            assert found.ids.tolist() == expected
