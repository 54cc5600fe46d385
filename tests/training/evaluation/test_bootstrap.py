import numpy as np
import pytest
from vireo_client.errors import DataError
from vireo_training.evaluation.bootstrap import bootstrap_intervals, paired_interval
from vireo_training.evaluation.metrics import summarise
from vireo_training.evaluation.ranking import Ranks


def _ranks(rng, images, captions):
    """Captions of one image are alike: its difficulty is drawn once."""
    hard = np.repeat(rng.random(images) < 0.4, captions)
    ranks = np.where(hard, rng.integers(2, 60, len(hard)), 1)
    return Ranks.of_one_each(ranks), np.repeat(np.arange(images), captions)


def test_one_seed_gives_one_result():
    ranks, cluster = _ranks(np.random.default_rng(0), 50, 3)
    first, again, other = (bootstrap_intervals(ranks, cluster, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_figure_has_an_interval_around_it():
    ranks, cluster = _ranks(np.random.default_rng(0), 80, 3)
    figures = summarise(ranks, 60).as_dict()
    intervals = bootstrap_intervals(ranks, cluster)
    assert set(intervals) == set(figures) - {"queries", "candidates"}
    for name, (low, high) in intervals.items():
        assert low <= figures[name] <= high, name


def test_intervals_cover_as_often_as_they_say():
    """Over many samples, about nine in ten intervals hold the true recall@1 of 0.6."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(200):
        ranks, cluster = _ranks(rng, 60, 3)
        low, high = bootstrap_intervals(ranks, cluster, confidence=0.9, resamples=300)[
            "recall_at_1"
        ]
        held.append(low <= 0.6 <= high)
    assert 0.82 <= np.mean(held) <= 0.96


def test_images_are_drawn_not_captions():
    ranks, cluster = _ranks(np.random.default_rng(0), 60, 5)
    low, high = bootstrap_intervals(ranks, cluster)["recall_at_1"]
    narrow = bootstrap_intervals(ranks, np.arange(len(ranks)))["recall_at_1"]
    assert high - low > 1.5 * (narrow[1] - narrow[0])


def test_resamples_equal_drawing_by_hand():
    ranks, cluster = _ranks(np.random.default_rng(3), 12, 2)
    rng, means, medians = np.random.default_rng(5), [], []
    for _ in range(40):
        drawn = [q for c in rng.integers(12, size=12) for q in np.flatnonzero(cluster == c)]
        means.append(np.mean(1 / ranks.first[drawn]))
        medians.append(np.median(ranks.first[drawn]))
    intervals = bootstrap_intervals(ranks, cluster, resamples=40, seed=5)
    tails = [0.025, 0.975]
    assert intervals["mean_reciprocal_rank"] == pytest.approx(np.quantile(means, tails))
    assert intervals["median_rank"] == pytest.approx(np.quantile(medians, tails))


def test_blocks_of_resamples_change_nothing(monkeypatch):
    ranks, cluster = _ranks(np.random.default_rng(0), 30, 3)
    whole = bootstrap_intervals(ranks, cluster, resamples=50)
    monkeypatch.setattr("vireo_training.evaluation.bootstrap._BLOCK_VALUES", 200)
    parted = bootstrap_intervals(ranks, cluster, resamples=50)
    for name, interval in whole.items():
        assert parted[name] == pytest.approx(interval)


@pytest.mark.parametrize("setting", [{"confidence": 1.0}, {"confidence": 0}, {"resamples": 0}])
def test_settings_out_of_range_are_an_error(setting):
    with pytest.raises(DataError, match="between 0 and 1"):
        bootstrap_intervals(Ranks.of_one_each(np.array([1, 2])), np.arange(2), **setting)


def test_a_paired_interval_is_that_of_images_drawn_one_by_one():
    rng = np.random.default_rng(3)
    cluster = rng.integers(0, 12, 60)
    gain = rng.normal(0.2, 1, 12)[cluster] + rng.normal(0, 0.1, 60)
    low, high = paired_interval(gain, cluster, resamples=4000)
    names = np.unique(cluster)
    means = []
    for _ in range(4000):
        drawn = rng.choice(names, len(names))
        means.append(np.concatenate([gain[cluster == name] for name in drawn]).mean())
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.05)
    assert paired_interval(np.full(60, 0.25), cluster) == pytest.approx((0.25, 0.25))
