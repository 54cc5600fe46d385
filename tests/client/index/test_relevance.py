import sqlite3

import numpy as np
import pytest
from support.small_index import DIM
from vireo_client.errors import DataError, SearchIndexError
from vireo_client.index import Index, IndexWriter, NewImage, digests, learning, neutral
from vireo_client.index.learning import (
    learn_from_captions,
    learn_from_neutral_queries,
    sample_captions,
)
from vireo_client.index.neutral import embed_usable, neutral_queries
from vireo_client.index.relevance import Relevance
from vireo_client.index.rows import FileStamp


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
    rng = np.random.default_rng(3)
    images = unit(rng, 800)
    captions = near(rng, images, 0.8)
    own = [frozenset([n]) for n in range(len(images))]
    learned = learn_from_captions(captions, own, searching(images), len(images))
    assert learned.source == "captions"
    assert len(learned.scores) == 800
    about_nothing = near(rng, unit(rng, 2_000), 0.8)
    best = learned.of(searching(images)(about_nothing, 1)[0][:, 0])
    for cut_off in (0.5, 0.9, 0.95):
        assert (best >= cut_off).mean() == pytest.approx(1 - cut_off, abs=0.05)
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
    def never(*_):
        raise AssertionError("a search in vain")

    images = unit(np.random.default_rng(3), 200)
    own = [frozenset([n]) for n in range(99)]
    assert learn_from_captions(images[:99], own, never, 99) is None
    everything = [frozenset(range(200))] * 101  # these describe too many images
    assert learn_from_captions(images, own + everything, never, 200) is None
    assert learn_from_captions(images[:0], [], never, 99) is None
    alone = unit(np.random.default_rng(3), 1)
    assert learn_from_captions(images, [frozenset([0])] * 200, searching(alone), 1) is None


def test_neutral_queries_give_the_logistic_of_the_standard_score():
    scores = np.array([0.1, 0.2, 0.3], dtype=np.float32)  # mean 0.2, deviation 0.0816
    learned = Relevance(scores, 10, "neutral queries")
    deviation = np.sqrt(2 / 3) / 10
    z = np.array([[0.0, 1.0], [np.log(9), -np.log(9)]])
    found = learned.of(0.2 + z * deviation)
    np.testing.assert_allclose(found, [[0.5, 0.731], [0.9, 0.1]], atol=1e-3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(learned.of([-1e9, 1e9, 0.9]), [0, 0.999, 0.998], atol=1e-3)
    assert learned.of(1e9) == np.float32(0.999)


def test_neutral_queries_of_one_score_tell_above_from_below():
    learned = Relevance(np.full(3, 0.25, dtype=np.float32), 1, "neutral queries")
    np.testing.assert_allclose(learned.of([0.2, 0.25, 0.3]), [0, 0.5, 0.999], atol=1e-6)


@pytest.mark.parametrize("images", [2, 20, 2_000])
def test_neutral_queries_keep_the_promise_at_every_size_and_scale(images):
    rng = np.random.default_rng(6)
    held = unit(rng, images)
    searched = searching(held)

    def narrow(queries, k):
        scores, ids = searched(queries, k)
        return (0.7 + scores / 50).astype(np.float32), ids

    neutral_vectors, others = unit(rng, 60), unit(rng, 2_000)
    hits = near(rng, held, 0.5)
    for nearest in (searched, narrow):
        learned = learn_from_neutral_queries(neutral_vectors, nearest, images)
        passed = learned.of(nearest(others, 1)[0][:, 0])
        for cut_off in (0.8, 0.9, 0.95):
            assert (passed >= cut_off).mean() <= 1 - cut_off
        assert (learned.of(nearest(hits, 1)[0][:, 0]) >= 0.9).mean() > 0.95


def test_neutral_queries_are_there_and_distinct():
    queries = neutral_queries()
    assert len(queries) == 60
    assert len(set(queries)) == len(queries)
    assert all(query == query.strip() and 7 <= len(query.split()) <= 11 for query in queries)


def test_neutral_queries_that_a_model_cannot_embed_are_left_out():
    rng = np.random.default_rng(4)
    refused = set(neutral_queries()[::10])

    def embed(texts):
        if refused & set(texts):
            raise DataError("holds no text that the model's tokenizer knows")
        return np.array([[len(text)] * DIM for text in texts], dtype=np.float32)

    kept = [len(text) for text in neutral_queries() if text not in refused]
    assert embed_usable(embed, list(neutral_queries()))[:, 0].tolist() == kept

    def never(texts):
        raise DataError("no text")

    assert not len(embed_usable(never, list(neutral_queries())))
    assert learn_from_neutral_queries(unit(rng, 60), searching(unit(rng, 1)), 0) is None


def test_embeddings_of_neutral_queries_are_read_back(caplog):
    vectors = unit(np.random.default_rng(8), 60)
    text = neutral.to_json(vectors)
    np.testing.assert_allclose(neutral.from_json(text, DIM), vectors, atol=5e-4)
    assert neutral.from_json(None, DIM) is None
    assert neutral.from_json(text.replace('"queries": "', '"queries": "0'), DIM) is None
    assert not caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"vectors": "', '"vectors": "!'),
        lambda text: text[: text.index('"vectors": "')] + '"vectors": ""}',
        lambda text: neutral.to_json(np.full((2, DIM), np.nan, dtype=np.float32)),
        lambda text: neutral.to_json(np.ones((1, DIM + 1), dtype=np.float32)),
    ],
    ids=["nothing", "a list", "no base64", "empty", "NaN", "another size"],
)
def test_damaged_embeddings_of_neutral_queries_are_left_with_a_warning(damage, caplog):
    text = neutral.to_json(unit(np.random.default_rng(8), 60))
    assert neutral.from_json(damage(text), DIM) is None
    assert "neutral queries' embeddings are damaged" in caplog.text


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
    with pytest.raises(
        SearchIndexError, match=r"relevance is damaged.*`vireo index` on its images"
    ):
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
    monkeypatch.setattr(learning, "MAX_CAPTIONS", 3)
    assert sample_captions(db, 100).caption_ids == [1000, 1099, 1199]
    db.close()


def add(writer, rng, count, first=0, captions=0):
    """Add images with captions that are near them."""
    vectors = unit(rng, count)
    images = []
    for n, vector in enumerate(vectors, first):
        texts = tuple(f"câu {n}.{place}" for place in range(captions))
        near_it = near(rng, np.repeat(vector[None], captions, axis=0), 0.5) if captions else None
        stamp = FileStamp(1, n)
        images.append(NewImage(f"/p/{n}.jpg", f"{n:064x}", stamp, vector, texts, near_it))
    writer.add(images)
    writer.save()
    return vectors


@pytest.fixture
def writer(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "index", small_bundle) as writer:
        yield writer


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_a_save_learns_from_captions_and_again_when_the_index_has_doubled(
    writer, rng, small_bundle
):
    add(writer, rng, 40, captions=2)
    with Index(writer.folder, small_bundle) as index:
        assert index.relevance is None  # 80 captions tell too little
        vectors = add(writer, rng, 60, first=40, captions=2)
        scores = index.search_images(vectors[:1], 100)[0].scores
        assert index.relevance.source == "captions"
        assert index.relevance.images == 100
        relevance = index.relevance.of(scores)
        assert relevance[0] > 0.99  # the image itself
        assert relevance[-1] == 0
        add(writer, rng, 60, first=100, captions=2)
        index.refresh()
        assert index.relevance.images == 100
        add(writer, rng, 50, first=160, captions=2)
        index.refresh()
        assert index.relevance.images == 210
        writer.remove([f"/p/{n}.jpg" for n in range(120)])
        writer.save()
        index.refresh()
        assert index.relevance.images == 90


def never(texts):
    raise AssertionError("embeds in vain")


def test_an_index_without_captions_learns_from_neutral_queries(writer, rng, small_bundle):
    def embed(texts):
        return unit(rng, len(texts))

    assert not writer.learn_relevance(never)  # there are no images
    add(writer, rng, 30)
    with Index(writer.folder, small_bundle) as index:
        assert index.relevance is None
        assert not writer.learn_relevance()
        assert writer.learn_relevance(embed)
        assert not writer.learn_relevance(never)  # the index has not changed
        assert index.refresh()
        assert index.relevance.source == "neutral queries"
        assert len(index.relevance.scores) == len(neutral_queries())
    writer.close()
    with IndexWriter(writer.folder, small_bundle) as again:
        assert not again.learn_relevance(never)


def test_neutral_queries_are_embedded_once(writer, rng, small_bundle):
    vectors = add(writer, rng, 30)
    embedded = unit(rng, len(neutral_queries()))
    assert writer.learn_relevance(lambda texts: embedded)
    vectors = np.concatenate([vectors, add(writer, rng, 30, first=30)])  # a save learns anew
    assert not writer.learn_relevance(never)
    with Index(writer.folder, small_bundle) as index:
        assert index.relevance.images == 60
        best = np.sort((embedded @ vectors.T).max(axis=1))
        np.testing.assert_allclose(index.relevance.scores, best, atol=1e-3)


def _seal(db):
    """Write the digest anew after a change that no writer made."""
    sealed = digests.of_tables(db)
    db.execute("UPDATE meta SET value = ? WHERE key = ?", (sealed, digests.KEY))


def test_what_other_neutral_queries_taught_is_learned_anew(writer, rng, small_bundle):
    add(writer, rng, 30)
    old = Relevance(np.linspace(0, 1, 150, dtype=np.float32), 30, "neutral queries")
    db = sqlite3.connect(writer.folder / "catalogue.sqlite")
    with db:  # as an older version left it
        db.execute("INSERT INTO meta VALUES ('relevance', ?)", [old.to_json()])
        _seal(db)
    db.close()
    with Index(writer.folder, small_bundle) as index:
        assert index.relevance.of(0.5) == pytest.approx(0.5, abs=1e-3)
        assert not writer.learn_relevance()
        assert writer.learn_relevance(lambda texts: unit(rng, len(texts)))
        index.refresh()
        assert len(index.relevance.scores) == len(neutral_queries())


def test_captions_replace_what_neutral_queries_taught(writer, rng):
    def embed(texts):
        return unit(rng, len(texts))

    def source():
        with sqlite3.connect(writer.folder / "catalogue.sqlite") as db:
            ((text,),) = db.execute("SELECT value FROM meta WHERE key = 'relevance'")
        db.close()
        return Relevance.from_json(text).source

    add(writer, rng, 200)
    assert writer.learn_relevance(embed)
    add(writer, rng, 20, first=200, captions=2)
    assert not writer.learn_relevance(embed)
    assert source() == "neutral queries"
    add(writer, rng, 40, first=220, captions=2)
    assert source() == "captions"


def test_damage_costs_the_relevance_and_not_the_search(writer, rng, small_bundle, caplog):
    vectors = add(writer, rng, 100, captions=1)
    db = sqlite3.connect(writer.folder / "catalogue.sqlite")
    with db:
        db.execute("UPDATE meta SET value = '{}' WHERE key = 'relevance'")
        _seal(db)  # as a newer vireo would have written it
    db.close()
    with Index(writer.folder, small_bundle) as index:
        assert index.relevance is None
        assert "what the index has learned of relevance is damaged" in caplog.text
        assert index.search_images(vectors[:1], 1)[0][0].path == "/p/0.jpg"
        assert writer.learn_relevance()
        index.refresh()
        assert index.relevance.images == 100
