import numpy as np
import pytest
from vireo_training.metrics import (
    chance,
    image_to_text_ranks,
    retrieval_metrics,
    summarise,
    text_to_image_ranks,
)


def _unit(rng, n, d):
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def corpus():
    rng = np.random.default_rng(0)
    picture = np.repeat(np.arange(30), rng.integers(1, 5, 30))
    images = _unit(rng, 30, 8)
    texts = images[picture] + 0.6 * _unit(rng, len(picture), 8)
    return images, texts / np.linalg.norm(texts, axis=1, keepdims=True), picture


def test_ranks_equal_sorting_by_hand(corpus):
    images, texts, picture = corpus
    scores = texts @ images.T
    by_text = [sorted(range(30), key=lambda i: -row[i]).index(p) + 1
               for row, p in zip(scores, picture, strict=True)]  # fmt: skip
    assert text_to_image_ranks(*corpus).tolist() == by_text
    by_image = []
    for image in range(30):
        order = sorted(range(len(texts)), key=lambda t: -scores[t, image])
        first = next(n for n, t in enumerate(order) if picture[t] == image)
        by_image.append(first + 1)  # nothing of its own stands before the first of its own
    assert image_to_text_ranks(*corpus).tolist() == by_image


def test_a_perfect_model_is_perfect_though_captions_repeat():
    images = np.eye(5, dtype=np.float32)
    picture = np.repeat(np.arange(5), 3)
    report = retrieval_metrics(images, images[picture], picture)
    for way in ("text_to_image", "image_to_text"):
        assert report[way]["recall_at_1"] == report[way]["mean_reciprocal_rank"] == 1
        assert report[way]["median_rank"] == 1


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_model_that_says_the_same_of_everything_ranks_last(value):
    same = np.full((6, 4), value, dtype=np.float32)
    report = retrieval_metrics(same, same, np.arange(6))
    assert report["text_to_image"]["median_rank"] == 6
    assert report["image_to_text"]["recall_at_5"] == 0


def test_ranks_do_not_depend_on_the_blocks(corpus, monkeypatch):
    whole = text_to_image_ranks(*corpus), image_to_text_ranks(*corpus)
    monkeypatch.setattr("vireo_training.metrics._BLOCK", 7)
    assert np.array_equal(whole[0], text_to_image_ranks(*corpus))
    assert np.array_equal(whole[1], image_to_text_ranks(*corpus))


def test_summary_figures():
    figures = summarise(np.array([1, 2, 6, 11]), 20)
    assert (figures.recall_at_1, figures.recall_at_5, figures.recall_at_10) == (0.25, 0.5, 0.75)
    assert figures.median_rank == 4
    assert figures.mean_reciprocal_rank == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 11) / 4)


@pytest.mark.parametrize("positives", [1, 3])
def test_chance_equals_shuffling(positives):
    n = 40
    expected = chance(np.full(8, positives), n)
    rng = np.random.default_rng(0)
    # The rank of the best right answer, counting only wrong ones before it.
    ranks = np.array([rng.permutation(n)[:positives].min() + 1 for _ in range(60_000)])
    seen = summarise(ranks, n)
    assert expected.recall_at_1 == pytest.approx(positives / n)
    for key in ("recall_at_5", "recall_at_10", "mean_reciprocal_rank"):
        assert getattr(expected, key) == pytest.approx(getattr(seen, key), rel=0.05)
    assert abs(expected.median_rank - seen.median_rank) <= 1
