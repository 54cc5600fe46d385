"""Filters and words in a reader: exact against brute force, over segments of several kinds."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.small_index import DIM, new_image, unit, write_small_bundle
from vireo_client.errors import DataError, SearchIndexError
from vireo_client.index import Index, IndexWriter
from vireo_client.index import nearest as module
from vireo_client.index.kinds import SearchSettings

_COUNT = 1500
_GONE = range(0, 200, 3)
_EXACT = SearchSettings(exact=True)


def _fields(number):
    return {
        "folder": f"{2000 + number % 10}/",
        "make": ("Canon", "Nikon", "Sony")[number % 3],
        "iso": number % 100,
        "one": int(number == 777),
    }


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A compacted graph, two flat segments behind it, and removed images."""
    folder = tmp_path_factory.mktemp("filtered")
    bundle = write_small_bundle(folder / "model_repository")
    with IndexWriter(folder / "i", bundle) as writer:

        def add(numbers):
            writer.add(
                [
                    new_image(f"{n}.jpg", n + 1, captions=n % 2)._replace(fields=_fields(n))
                    for n in numbers
                ]
            )
            writer.save()

        add(range(1000))
        writer.compact("hnsw", 0.9)
        add(range(1000, 1300))
        add(range(1300, _COUNT))
        writer.remove([f"{n}.jpg" for n in _GONE])
        writer.save()
    with Index(folder / "i", bundle) as opened:
        yield opened


def _best(query, passes, k):
    present = [n for n in range(_COUNT) if n not in _GONE and passes(_fields(n))]
    scores = np.array([unit(n + 1) @ query for n in present])
    return [f"{present[i]}.jpg" for i in np.argsort(-scores)[:k]]


_CONDITIONS = st.sampled_from(
    [
        ('make = "Canon"', lambda f: f["make"] == "Canon"),
        ("iso < 7", lambda f: f["iso"] < 7),
        ("iso >= 7", lambda f: f["iso"] >= 7),
        ("one = 1", lambda f: f["one"] == 1),
        ('folder ^= "200"', lambda f: True),
        ('folder in ("2003/", "2004/")', lambda f: f["folder"] in ("2003/", "2004/")),
        ("iso > 1000", lambda f: False),
    ]
)


@pytest.mark.parametrize("few", [50_000, 100])  # compared one by one, or by a mask
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_filtered_search_is_exact(index, few, data):
    (left, one), (right, other) = data.draw(_CONDITIONS), data.draw(_CONDITIONS)
    text, passes = data.draw(
        st.sampled_from(
            [
                (f"{left} and {right}", lambda f: one(f) and other(f)),
                (f"{left} or {right}", lambda f: one(f) or other(f)),
                (f"not ({left}) and {right}", lambda f: not one(f) and other(f)),
            ]
        )
    )
    k = data.draw(st.sampled_from([1, 10, 300]))
    query = unit(data.draw(st.integers(5000, 5100)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FEW", few)
        (found,) = index.search_images(query[None], k, filter=text, search=_EXACT)
    assert [match.path for match in found] == _best(query, passes, k)
    assert all(passes(match.metadata) for match in found)


def test_a_filter_passes_the_captions_of_the_images_that_pass_it(index):
    queries = np.stack([unit(1000 * (n + 1)) for n in (777, 779)])
    ours, others = index.search_captions(queries, 5, filter="one = 1")
    assert [(m.path, m.caption) for m in ours] == [("777.jpg", "777.jpg câu 0")]
    assert [m.path for m in others] == ["777.jpg"]
    assert ours[0].metadata["iso"] == 77


def test_the_structure_answers_where_many_pass(index, monkeypatch):
    def one_by_one(*_):
        raise AssertionError("compared one by one")

    monkeypatch.setattr(module, "FEW", 100)
    monkeypatch.setattr(module, "nearest_of", one_by_one)
    (found,) = index.search_images(unit(501)[None], 1, filter="iso >= 0")
    assert found[0].path == "500.jpg"
    (found,) = index.search_images(unit(501)[None], 1, filter="iso != 0")
    assert found[0].path != "500.jpg"


def test_a_least_score_leaves_out_what_is_below(index):
    (found,) = index.search_images(unit(501)[None], 10, min_score=0.9)
    assert [(m.rank, m.path) for m in found] == [(1, "500.jpg")]
    assert len(index.search_images(unit(501)[None], 10, min_score=1.1)[0]) == 0


@pytest.mark.parametrize("k", [np.int64(7), 1400, 5000])
def test_any_number_of_matches_may_be_asked_for(index, k):
    (found,) = index.search_images(unit(501)[None], k, search=_EXACT)
    assert len(found) == min(k, _COUNT - len(_GONE))
    assert len(set(found.ids.tolist())) == len(found)
    assert np.all(np.diff(found.scores) <= 0)


def test_words_are_searched_with_a_filter(index):
    assert index.search_words("777.jpg", 3, filter="one = 1")[0].path == "777.jpg"
    assert len(index.search_words("777", 3, filter="one = 0")) == 0
    assert index.search_words("câu 0", 5)[0].metadata["make"] in ("Canon", "Nikon", "Sony")


def test_rows_are_looked_up_by_id(index):
    (found,) = index.search_images(unit(501)[None], 1)
    rows = index.rows([found[0].id, 10**9])
    assert list(rows) == [found[0].id]
    assert (rows[found[0].id].path, rows[found[0].id].fields["iso"]) == ("500.jpg", 0)


@pytest.mark.parametrize("search", ["search_images", "search_captions"])
@pytest.mark.parametrize("filter_", ["nowhere = 1", "iso = 'much'", "iso <", {"iso": {"near": 1}}])
def test_a_filter_that_cannot_be_answered_is_refused(index, search, filter_):
    with pytest.raises(DataError):
        getattr(index, search)(unit(1)[None], 5, filter=filter_)


def test_a_save_between_filter_and_search_makes_it_start_anew(tmp_path, small_bundle, monkeypatch):
    from vireo_client.index import reader

    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)._replace(fields={"good": 1})])
        writer.save()
        plain, saves = reader.nearest, []

        def then_save(*words):
            if not saves:
                saves.append(words)
                writer.add(
                    [
                        new_image("a.jpg", 1, size=2)._replace(fields={"good": 0}),
                        new_image("b.jpg", 2)._replace(fields={"good": 1}),
                    ]
                )
                writer.save()
            return plain(*words)

        monkeypatch.setattr(reader, "nearest", then_save)
        with Index(tmp_path / "i", small_bundle) as index:
            (found,) = index.search_images(unit(1)[None], 5, filter="good = 1")
            assert [match.path for match in found] == ["b.jpg"]


def test_what_faiss_cannot_do_is_an_error_of_ours(index, monkeypatch):
    import faiss

    def fail(*_):
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(faiss, "knn_inner_product", fail)
    with pytest.raises(SearchIndexError, match=r"bad_alloc.*smaller k"):
        index.search_images(np.zeros((1, DIM), np.float32), 5, search=_EXACT)
