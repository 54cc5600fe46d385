import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from vireo_client.errors import DataError
from vireo_training.evaluation import bag_of_words, tfidf_ridge
from vireo_training.evaluation.bag_of_words import fit_bag_of_words
from vireo_training.evaluation.metrics import retrieval_metrics

COLOURS = ["đỏ", "xanh_lá", "vàng", "tím", "trắng", "đen"]
THINGS = ["con_cá", "ngôi_nhà", "cái_cây", "chiếc_thuyền"]


@pytest.fixture
def corpus():
    """Images whose vectors are sums of what stands in them, and two captions for each."""
    rng = np.random.default_rng(0)
    meaning = {word: rng.standard_normal(16) for word in COLOURS + THINGS}
    chosen = [(c, t) for c in COLOURS for t in THINGS] * 3
    images = np.stack([3 + meaning[c] + meaning[t] + 0.2 * rng.standard_normal(16)
                       for c, t in chosen])  # fmt: skip
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts = [text for c, t in chosen for text in (f"Một {t} màu {c}", f"{t} {c} .")]
    return texts, np.repeat(np.arange(len(chosen)), 2), images.astype(np.float32)


def test_it_equals_scikit_learn(corpus):
    texts, owner, images = corpus
    model = fit_bag_of_words(texts, owner, images)
    vectorizer = TfidfVectorizer(token_pattern=r"\S+")
    ridge = Ridge(alpha=model.penalty, fit_intercept=False)
    ridge.fit(vectorizer.fit_transform(texts), images[owner] - images.mean(axis=0))
    queries = ["một con_cá màu tím", "ngôi_nhà ngôi_nhà đỏ lạ"]
    expected = ridge.predict(vectorizer.transform(queries))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(model.embed_texts(queries), expected, atol=1e-5)


def test_it_finds_what_words_alone_can_tell(corpus):
    texts, owner, images = corpus
    model = fit_bag_of_words(texts, owner, images)
    held = images[:24]  # one of each kind
    report = retrieval_metrics(
        model.embed_images(held),
        model.embed_texts([f"{t} màu {c}" for c in COLOURS for t in THINGS]),
        np.arange(24),
    )
    assert report["text_to_image"]["recall_at_1"] > 0.9


def test_unknown_words_say_nothing_and_rank_last(corpus):
    texts, owner, images = corpus
    model = fit_bag_of_words(texts, owner, images)
    vectors = model.embed_texts(["hoàn_toàn lạ", ""])
    assert not vectors.any()
    report = retrieval_metrics(model.embed_images(images[:2]), vectors, np.arange(2))
    assert report["text_to_image"]["recall_at_1"] == 0


def test_blocks_and_the_order_of_captions_change_nothing(corpus, monkeypatch):
    texts, owner, images = corpus
    whole = fit_bag_of_words(texts, owner, images).embed_texts(texts)
    monkeypatch.setattr(tfidf_ridge, "_BLOCK", 5)
    order = np.random.default_rng(1).permutation(len(texts))
    parted = fit_bag_of_words([texts[i] for i in order], owner[order], images)
    assert np.allclose(whole, parted.embed_texts(texts), atol=1e-5)


def test_only_the_commonest_words_are_kept(corpus, monkeypatch):
    monkeypatch.setattr(bag_of_words, "MAX_WORDS", 3)
    model = fit_bag_of_words(*corpus)
    assert set(model.columns) <= {"một", "màu", ".", *COLOURS, *THINGS}
    assert len(model.columns) == 3


def test_one_image_is_enough_and_no_word_is_an_error():
    images = np.ones((1, 4), dtype=np.float32) / 2
    assert fit_bag_of_words(["một con_cá"], np.array([0]), images).penalty == 1
    with pytest.raises(DataError, match="no word"):
        fit_bag_of_words([" "], np.array([0]), images)
