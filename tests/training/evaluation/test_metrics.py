import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score
from vireo_client.errors import DataError
from vireo_training.evaluation import ranking
from vireo_training.evaluation.metrics import (
    chance,
    chance_curve,
    cutoffs_of,
    image_to_text_ranks,
    read_cutoffs,
    recall_curve,
    retrieval_metrics,
    summarise,
    text_to_image_ranks,
)
from vireo_training.evaluation.ranking import Ranks, rank_right_answers


def _unit(rng, n, d):
    x = rng.standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def corpus():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), rng.integers(1, 5, 30))
    images = _unit(rng, 30, 8)
    texts = images[owner] + 0.6 * _unit(rng, len(owner), 8)
    return images, texts / np.linalg.norm(texts, axis=1, keepdims=True), owner


@pytest.fixture(params=[0, 1, 2])
def tied(request):
    """Vectors of small whole numbers: most scores are shared by several candidates."""
    rng = np.random.default_rng(request.param)
    owner = rng.permutation(np.repeat(np.arange(40), rng.integers(1, 14, 40)))
    images = rng.integers(-1, 2, (43, 3)).astype(np.float32)  # three have no caption
    return images, rng.integers(-1, 2, (len(owner), 3)).astype(np.float32), owner


def _orders(images, texts, owner):
    """By direction and query, which places of the ranking are right: sorted in plain Python."""
    described = sorted(set(owner.tolist()))
    queries = {
        "text_to_image": [(texts[t], images, [i == p for i in range(len(images))])
                          for t, p in enumerate(owner)],
        "image_to_text": [(images[i], texts, [p == i for p in owner]) for i in described],
    }  # fmt: skip
    orders = {}
    for way, cases in queries.items():
        orders[way] = []
        for query, candidates, right in cases:
            scores = [float(query @ c) for c in candidates]
            # Highest first; of equals, wrong ones first.
            by_score = sorted(range(len(scores)), key=lambda c: (-scores[c], right[c]))
            orders[way].append([right[c] for c in by_score])
    return orders


def _mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_figures_equal_plain_python_with_ties(tied):
    report = retrieval_metrics(*tied)
    for way, orders in _orders(*tied).items():
        figures = report[way]
        ranks = [[n for n, right in enumerate(order, 1) if right] for order in orders]
        for k in (1, 5, 10):
            hits = _mean(float(r[0] <= k) for r in ranks)
            assert figures[f"recall_at_{k}"] == pytest.approx(hits)
            assert figures[f"top_{k}_accuracy"] == pytest.approx(hits)
            assert figures[f"top_{k}_error"] == pytest.approx(1 - hits)
            found = _mean(sum(n <= k for n in r) / len(r) for r in ranks)
            assert figures[f"share_found_at_{k}"] == pytest.approx(found)
        precision = [[j / n for j, n in enumerate(r, 1)] for r in ranks]
        assert figures["mean_average_precision"] == pytest.approx(
            _mean(sum(p) / len(p) for p in precision)
        )
        cut = (
            sum(x for x, n in zip(p, r, strict=True) if n <= 10) / min(len(r), 10)
            for p, r in zip(precision, ranks, strict=True)
        )
        assert figures["mean_average_precision_at_10"] == pytest.approx(_mean(cut))
        assert figures["mean_reciprocal_rank"] == pytest.approx(_mean(1 / r[0] for r in ranks))
        assert figures["mean_rank"] == pytest.approx(_mean(r[0] for r in ranks))
        assert figures["median_rank"] == np.median([r[0] for r in ranks])


def _matrices(images, texts, owner):
    """Scores and right answers `[Q, C]`, with ties broken against the query."""
    described = np.unique(owner)
    for way, scores, right in (
        ("text_to_image", texts @ images.T, owner[:, None] == np.arange(len(images))),
        ("image_to_text", images[described] @ texts.T, described[:, None] == owner),
    ):
        # Above zero: torchmetrics holds nothing of scores that are not.
        yield way, scores + 10 - 0.25 * right, right


def test_figures_equal_scikit_learn(tied):
    report = retrieval_metrics(*tied)
    for way, scores, right in _matrices(*tied):
        mean = np.mean([average_precision_score(r, s) for r, s in zip(right, scores, strict=True)])
        if way == "text_to_image":
            assert report[way]["mean_average_precision"] == pytest.approx(mean)
            ranked = label_ranking_average_precision_score(right, scores)
            assert report[way]["mean_average_precision"] == pytest.approx(ranked)
        else:
            # scikit-learn joins tied right answers to one step, so they are parted here.
            apart = scores + 1e-6 * np.arange(scores.shape[1]) * right
            assert report[way]["mean_average_precision"] == pytest.approx(
                label_ranking_average_precision_score(right, apart)
            )


def test_figures_equal_torchmetrics(tied):
    from vireo_training.models.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    reason = "torchmetrics is a test dependency: pip install 'vireo[dev]'"
    retrieval = pytest.importorskip("torchmetrics.retrieval", reason=reason)
    import torch

    report = retrieval_metrics(*tied)
    for way, scores, right in _matrices(*tied):
        rows = torch.arange(len(scores))[:, None].expand(*scores.shape).reshape(-1)
        arguments = torch.tensor(scores).reshape(-1), torch.tensor(right).reshape(-1)

        def by(metric, arguments=arguments, rows=rows):
            return float(metric(*arguments, indexes=rows))

        figures = report[way]
        assert figures["mean_reciprocal_rank"] == pytest.approx(by(retrieval.RetrievalMRR()))
        assert figures["mean_average_precision"] == pytest.approx(by(retrieval.RetrievalMAP()))
        for k in (1, 5, 10):
            hits, share = retrieval.RetrievalHitRate(top_k=k), retrieval.RetrievalRecall(top_k=k)
            assert figures[f"recall_at_{k}"] == pytest.approx(by(hits))
            assert figures[f"share_found_at_{k}"] == pytest.approx(by(share))


def test_first_ranks_equal_sorting_by_hand(corpus):
    images, texts, owner = corpus
    scores = texts @ images.T
    by_text = [sorted(range(30), key=lambda i: -row[i]).index(p) + 1
               for row, p in zip(scores, owner, strict=True)]  # fmt: skip
    assert text_to_image_ranks(*corpus).first.tolist() == by_text
    by_image = []
    for image in range(30):
        order = sorted(range(len(texts)), key=lambda t: -scores[t, image])
        by_image.append(next(n for n, t in enumerate(order, 1) if owner[t] == image))
    assert image_to_text_ranks(*corpus).first.tolist() == by_image


def test_a_perfect_model_is_perfect_though_captions_repeat():
    images = np.eye(5, dtype=np.float32)
    owner = np.repeat(np.arange(5), 3)
    report = retrieval_metrics(images, images[owner], owner)
    for way in ("text_to_image", "image_to_text"):
        assert report[way]["recall_at_1"] == report[way]["mean_reciprocal_rank"] == 1
        assert report[way]["mean_average_precision"] == 1
        assert report[way]["mean_average_precision_at_10"] == 1
        assert report[way]["median_rank"] == report[way]["mean_rank"] == 1


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_model_with_one_embedding_for_everything_ranks_last(value):
    same = np.full((6, 4), value, dtype=np.float32)
    report = retrieval_metrics(same, same, np.arange(6))
    assert report["text_to_image"]["median_rank"] == 6
    assert report["image_to_text"]["recall_at_5"] == 0


def test_equal_vectors_tie_across_blocks(monkeypatch):
    """Sums of another order differ in the last digit, which would make a tie a win."""
    rng = np.random.default_rng(1)
    vector = _unit(rng, 1, 333)
    for block in (1, 3, 64, 4096):
        monkeypatch.setattr(ranking, "CANDIDATE_BLOCK", block)
        same = np.repeat(vector, 97, axis=0)
        assert text_to_image_ranks(same, same, np.arange(97)).first.tolist() == [97] * 97


def test_one_broken_vector_counts_against_the_query():
    images = np.eye(3, dtype=np.float32)
    texts, owner = images[[0, 0, 1, 2]], np.array([0, 0, 1, 2])
    texts[1] = np.nan
    ranks = image_to_text_ranks(images, texts, owner)
    assert ranks.positions.tolist() == [1, 4, 2, 2]  # its own stands last, others' stands before
    assert text_to_image_ranks(images, texts, owner).positions.tolist() == [1, 3, 1, 1]


@pytest.mark.parametrize("block", [1, 7, 50, 10_000])
def test_ranks_do_not_depend_on_the_blocks(tied, monkeypatch, block):
    whole = text_to_image_ranks(*tied), image_to_text_ranks(*tied)
    monkeypatch.setattr(ranking, "QUERY_BLOCK", block)
    monkeypatch.setattr(ranking, "CANDIDATE_BLOCK", max(1, block - 2))
    parted = text_to_image_ranks(*tied), image_to_text_ranks(*tied)
    for a, b in zip(whole, parted, strict=True):
        assert np.array_equal(a.positions, b.positions)


def test_memory_does_not_grow_with_the_matrix():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(3000), 10)
    images, texts = _unit(rng, 3000, 4), _unit(rng, 30_000, 4)
    tracemalloc.start()
    image_to_text_ranks(images, texts, owner)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 30_000 * 4 / 4  # FP32 scores would take four times this


def test_summary_figures():
    figures = summarise(Ranks.of_one_each(np.array([1, 2, 6, 11])), 20)
    assert tuple(figures.at[f"recall_at_{k}"] for k in (1, 5, 10)) == (0.25, 0.5, 0.75)
    assert (figures.median_rank, figures.mean_rank) == (4, 5)
    assert figures.mean_reciprocal_rank == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 11) / 4)
    assert figures.mean_average_precision == figures.mean_reciprocal_rank


def test_the_recall_curve_passes_through_the_figures(corpus):
    ranks = text_to_image_ranks(*corpus)
    curve, figures = recall_curve(ranks, 30), summarise(ranks, 30)
    assert [curve[k - 1] for k in (1, 5, 10)] == pytest.approx(
        [figures.at[f"recall_at_{k}"] for k in (1, 5, 10)]
    )
    assert curve[-1] == 1


@pytest.mark.parametrize("counts", [[1], [3], [1, 2, 12]])
def test_chance_equals_shuffling(counts):
    n, rounds = 40, 60_000 // len(counts)
    expected = chance(np.array(counts), n)
    rng = np.random.default_rng(0)
    places = [np.sort(rng.permutation(n)[:m] + 1) for m in counts for _ in range(rounds)]
    starts = np.cumsum([0, *map(len, places)])
    seen = summarise(Ranks(np.concatenate(places), starts), n)
    for key, value in expected.as_dict().items():
        if key not in ("queries", "candidates", "median_rank"):
            assert value == pytest.approx(seen.as_dict()[key], rel=0.05), key
    assert abs(expected.median_rank - seen.median_rank) <= 1
    curve = chance_curve(np.array(counts), n)
    assert np.all(np.diff(curve) >= 0)
    assert curve[-1] == pytest.approx(1)


def test_chance_among_fewer_candidates_than_the_cutoffs():
    figures = chance(np.array([1, 2]), 2)
    assert figures.at["recall_at_5"] == figures.at["recall_at_10"] == pytest.approx(1)
    assert figures.mean_average_precision == pytest.approx((0.75 + 1) / 2)
    assert figures.at["mean_average_precision_at_10"] == pytest.approx((0.75 + 1) / 2)
    assert chance(np.array([1]), 1).median_rank == 1


@pytest.mark.parametrize(
    ("images", "texts", "owner", "message"),
    [
        ((3, 4), (3, 5), [0, 1, 2], "cannot be compared"),
        ((3, 4), (3, 4), [0, 1], "3 caption"),
        ((3, 4), (0, 4), [], "0 caption"),
        ((3, 4), (2, 4), [0, 3], r"outside of 0\.\.2"),
        ((3, 4), (2, 4), [-1, 2], r"outside of 0\.\.2"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(images, texts, owner, message):
    with pytest.raises(DataError, match=message):
        retrieval_metrics(
            np.zeros(images, np.float32), np.zeros(texts, np.float32), np.array(owner, np.int64)
        )


def test_a_query_without_a_right_answer_is_an_error():
    with pytest.raises(DataError, match="without a right answer"):
        rank_right_answers(
            np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), np.array([0]), np.array([0])
        )


def _fits(owner, same):
    """Which images each caption describes, by the definition: BOOL `[T, N]`, in plain Python."""
    return np.array(
        [
            [any(p == i and s == text for p, s in zip(owner, same, strict=True)) for i in range(43)]
            for text in same
        ]
    )


@pytest.mark.parametrize("texts_there_are", [1, 3, 60])
def test_shared_texts_describe_every_image_that_has_them(tied, texts_there_are, monkeypatch):
    images, texts, owner = tied
    same = np.random.default_rng(4).integers(0, texts_there_are, len(owner))
    fits = _fits(owner, same)
    described = np.unique(owner)
    for sorted_from in (2, 10**6):  # by sorting, and by comparing with each
        monkeypatch.setattr(ranking, "_SORTED_FROM", sorted_from)
        for ranks, scores, right in (
            (text_to_image_ranks(images, texts, owner, same), texts @ images.T, fits),
            (image_to_text_ranks(images, texts, owner, same), images[described] @ texts.T,
             fits.T[described]),
        ):  # fmt: skip
            assert ranks.counts.tolist() == right.sum(axis=1).tolist()
            for query, (row, good) in enumerate(zip(scores, right, strict=True)):
                order = sorted(range(len(row)), key=lambda c: (-row[c], good[c]))
                expected = [place for place, c in enumerate(order, 1) if good[c]]
                got = ranks.positions[ranks.starts[query] : ranks.starts[query + 1]]
                assert got.tolist() == expected


def test_different_texts_change_no_metric(corpus):
    different = np.random.default_rng(1).permutation(len(corpus[2])) - 7
    assert retrieval_metrics(*corpus, different) == retrieval_metrics(*corpus)


def test_images_captioned_alike_are_all_right():
    """No model can do better or worse, and chance is as good."""
    rng = np.random.default_rng(0)
    images, texts = _unit(rng, 60, 8), np.repeat(_unit(rng, 1, 8), 60, axis=0)
    report = retrieval_metrics(images, texts, np.arange(60), np.zeros(60, np.int64))
    for figures in report.values():
        for k in (1, 5, 10):
            assert figures[f"recall_at_{k}"] == pytest.approx(1)
        assert figures["mean_average_precision"] == pytest.approx(1)


def test_metrics_at_chosen_cutoffs_equal_those_counted_by_hand():
    ranks = Ranks.of_one_each(np.array([1, 2, 6, 31]))
    figures = summarise(ranks, 40, (1, 5, 30)).as_dict()
    assert cutoffs_of(figures) == (1, 5, 30)
    assert [figures[f"recall_at_{k}"] for k in (1, 5, 30)] == [0.25, 0.5, 0.75]
    assert figures["mean_average_precision_at_5"] == pytest.approx((1 + 1 / 2) / 4)
    assert figures["top_30_error"] == 0.25
    assert figures.keys() == chance(ranks.counts, 40, (1, 5, 30)).as_dict().keys()
    assert chance(ranks.counts, 40, (1, 5, 30)).at["recall_at_30"] == pytest.approx(30 / 40)


def test_cutoffs_are_read_from_a_text():
    assert read_cutoffs(None) == (1, 5, 10)
    assert read_cutoffs("30, 1,5") == (1, 5, 30)
    for wrong in ("", "0", "1,,5", "-1", "a"):
        with pytest.raises(DataError, match="give whole numbers above 0"):
            read_cutoffs(wrong)
