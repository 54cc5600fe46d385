import sqlite3

import numpy as np
import pytest
from vireo_client.errors import DataError, SearchIndexError
from vireo_client.index import relevance
from vireo_client.index.relevance import (
    Relevance,
    learn_from_captions,
    learn_from_neutral_queries,
    neutral_queries,
    sample_captions,
)

DIM = 32


def unit(rng, count):
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def near(rng, vectors, noise):
    moved = vectors + noise * unit(rng, len(vectors))
    return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32)


def searching(images):
    def nearest(queries, k):
        scores = queries @ images.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), order.astype(np.int64)

    return nearest


def test_the_share_of_lower_scores_is_the_relevance():
    learned = Relevance(np.array([0.1, 0.2, 0.2, 0.4], dtype=np.float32), 10, "captions")
    found = learned.of([[0.0, 0.1, 0.15, 0.2], [0.3, 0.4, 0.41, 1.0]])
    np.testing.assert_allclose(found, [[0, 0, 0.2, 0.2], [0.6, 0.6, 0.8, 0.8]])
    assert found.dtype == np.float32


def test_the_cut_off_holds_its_promise_for_queries_about_nothing_in_the_folder():
    rng = np.random.default_rng(0)
    images = unit(rng, 800)
    captions = near(rng, images, 0.8)
    own = [frozenset([n]) for n in range(len(images))]
    learned = learn_from_captions(captions, own, searching(images), len(images))
    assert learned.source == "captions"
    assert len(learned.scores) == 800
    about_nothing = near(rng, unit(rng, 2_000), 0.8)
    best = learned.of(searching(images)(about_nothing, 1)[0][:, 0])
    for cut_off in (0.5, 0.9, 0.95):
        assert (best >= cut_off).mean() == pytest.approx(1 - cut_off, abs=0.03)
    hits = learned.of((near(rng, images, 0.8) * images).sum(axis=1))
    assert (hits >= 0.95).mean() > 0.95


def test_relevance_means_the_same_when_a_model_gives_other_scores():
    rng = np.random.default_rng(1)
    images = unit(rng, 300)
    captions = near(rng, images, 1.0)
    own = [frozenset([n]) for n in range(300)]
    first = learn_from_captions(captions, own, searching(images), 300)

    def narrow(queries, k):  # a model whose cosines all lie between 0.68 and 0.72
        scores, ids = searching(images)(queries, k)
        return (0.7 + scores / 50).astype(np.float32), ids

    second = learn_from_captions(captions, own, narrow, 300)
    scores = searching(images)(near(rng, unit(rng, 200), 1.0), 1)[0]
    np.testing.assert_allclose(second.of(0.7 + scores / 50), first.of(scores), atol=0.02)


def test_images_of_the_same_caption_are_no_unrelated_ones():
    rng = np.random.default_rng(2)
    images = np.repeat(unit(rng, 150), 2, axis=0)  # every image twice
    own = [frozenset([n - n % 2, n - n % 2 + 1]) for n in range(300)]
    learned = learn_from_captions(images, own, searching(images), 300)
    assert learned.scores.max() < 0.9
    alone = learn_from_captions(
        images, [frozenset([n]) for n in range(300)], searching(images), 300
    )
    assert alone.scores.min() > 0.99


def test_too_few_captions_teach_nothing():
    images = unit(np.random.default_rng(3), 99)
    own = [frozenset([n]) for n in range(99)]
    assert learn_from_captions(images, own, searching(images), 99) is None
    everything = [frozenset(range(200))] * 200
    assert learn_from_captions(images, everything, searching(images), 99) is None
    assert learn_from_captions(images[:0], [], searching(images), 99) is None


def test_neutral_queries_are_there_and_distinct():
    queries = neutral_queries()
    assert len(queries) >= 100
    assert len(set(queries)) == len(queries)
    assert all(query == query.strip() and len(query) > 5 for query in queries)


def test_neutral_queries_that_a_model_cannot_embed_are_left_out():
    rng = np.random.default_rng(4)
    images = unit(rng, 50)
    refused = set(neutral_queries()[::10])

    def embed(texts):
        if refused & set(texts):
            raise DataError("holds no text that the model's tokenizer knows")
        return unit(rng, len(texts))

    learned = learn_from_neutral_queries(embed, searching(images), 50)
    assert len(learned.scores) == len(neutral_queries()) - len(refused)
    assert learned.source == "neutral queries"

    def never(texts):
        raise DataError("no text")

    assert learn_from_neutral_queries(never, searching(images), 50) is None
    assert learn_from_neutral_queries(embed, searching(images), 0) is None


def test_it_is_learned_anew_when_the_index_has_doubled_or_halved():
    learned = Relevance(np.zeros(1, np.float32), 100, "captions")
    assert [learned.is_stale(n) for n in (49, 50, 100, 199, 200)] == [
        True, False, False, False, True
    ]  # fmt: skip


def test_what_was_learned_is_read_back():
    scores = np.sort(np.random.default_rng(5).normal(size=1000)).astype(np.float32)
    learned = Relevance(scores, 7, "captions")
    text = learned.to_json()
    assert len(text) < 15_000
    read = Relevance.from_json(text)
    assert read[1:] == learned[1:]
    np.testing.assert_allclose(read.scores, scores, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}"]
    + [f'{{"scores": {scores}, "images": 1, "source": ""}}' for scores in ("[]", "[NaN]", "1")],
)
def test_damage_is_named(text):
    with pytest.raises(SearchIndexError, match="relevance is damaged"):
        Relevance.from_json(text)


def test_captions_are_chosen_evenly_with_all_images_that_they_describe(monkeypatch):
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, sha256)")
    db.execute("CREATE TABLE captions (id INTEGER PRIMARY KEY, image_id, text)")
    assert sample_captions(db, 0) == ([], [])
    db.executemany("INSERT INTO images VALUES (?, ?)", [(n, f"file {n % 99}") for n in range(100)])
    texts = [(n + 1000, n // 2, "the same" if n in (0, 199) else f"text {n}") for n in range(200)]
    db.executemany("INSERT INTO captions VALUES (?, ?, ?)", texts)
    every = sample_captions(db, 100)
    assert every.caption_ids == list(range(1000, 1200))
    assert every.own[0] == {0, 99}  # a copy of the file, and the same caption
    assert every.own[2] == {1}
    assert every.own[199] == {99, 0}
    monkeypatch.setattr(relevance, "MAX_CAPTIONS", 3)
    assert sample_captions(db, 100).caption_ids == [1000, 1099, 1199]
    db.close()
