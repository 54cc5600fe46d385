"""How requests are joined, cached and waited for, without Triton and without an engine."""

import numpy as np
import pytest
from vireo_serving.models.batching import WAIT_SHARE, BatchDelay, Batcher, Rows
from vireo_serving.models.cache import VectorCache

DIM = 3


class Tower:
    """Embeds a row of ids as its sum, its length and its first id; negative ids fail."""

    def __init__(self):
        self.batches = []

    def run(self, ids):
        self.batches.append(ids.shape)
        if ids.min() < 0:
            raise ValueError("negative ids")
        columns = [ids.sum(1), np.full(len(ids), ids.shape[1]), ids[:, 0]]
        return np.stack(columns, 1).astype(np.float32)


@pytest.fixture
def tower():
    return Tower()


def _ids(*rows):
    return np.array(rows, dtype=np.int32)


def _alone(ids):
    return Tower().run(ids)


def test_rows_of_one_shape_run_together_and_come_back_in_order(tower):
    blocks = [_ids([1, 2]), _ids([3, 4], [5, 6]), _ids([7, 8, 9]), _ids([9, 1])]
    results = Batcher(tower.run, DIM).embed([Rows([block]) for block in blocks])
    assert tower.batches == [(4, 2), (1, 3)]
    for block, result in zip(blocks, results, strict=True):
        assert np.array_equal(result, _alone(block))


def test_a_request_of_several_shapes_gets_its_rows_in_its_own_order(tower):
    mixed = [_ids([1, 2]), _ids([3, 4, 5]), _ids([6, 7])]
    first, second = Batcher(tower.run, DIM).embed([Rows(mixed), Rows([_ids([8, 9, 10])])])
    assert sorted(tower.batches) == [(2, 2), (2, 3)]
    assert np.array_equal(first, np.concatenate([_alone(block) for block in mixed]))
    assert np.array_equal(second, _alone(_ids([8, 9, 10])))


def test_a_bad_request_fails_alone(tower):
    blocks = [_ids([1, 2]), _ids([-1, 2]), _ids([3, 4])]
    good, bad, other = Batcher(tower.run, DIM).embed([Rows([block]) for block in blocks])
    assert isinstance(bad, ValueError)
    assert np.array_equal(good, _alone(blocks[0]))
    assert np.array_equal(other, _alone(blocks[2]))


def test_a_request_with_one_bad_row_fails_as_a_whole(tower):
    (result,) = Batcher(tower.run, DIM).embed([Rows([_ids([1, 2]), _ids([-1, 2, 3])])])
    assert isinstance(result, ValueError)


def test_an_error_of_preprocessing_is_handed_on_and_does_not_run(tower):
    error = ValueError("not UTF-8")
    first, second, third = Batcher(tower.run, DIM).embed([error, Rows([_ids([1, 2])]), Rows([])])
    assert first is error
    assert np.array_equal(second, _alone(_ids([1, 2])))
    assert third is None  # it wants no embedding
    assert tower.batches == [(1, 2)]


def test_rows_in_the_cache_do_not_run_again(tower):
    cache = VectorCache(1 << 20)
    batcher = Batcher(tower.run, DIM, cache)
    batcher.embed([Rows([_ids([1, 2])]), Rows([_ids([3, 4])])])
    old, new = batcher.embed([Rows([_ids([3, 4])]), Rows([_ids([5, 6])])])
    assert tower.batches == [(2, 2), (1, 2)]
    assert np.array_equal(old, _alone(_ids([3, 4])))
    assert np.array_equal(new, _alone(_ids([5, 6])))
    assert (cache.hits, cache.misses) == (1, 3)


def test_bulk_rows_are_neither_looked_up_nor_kept(tower):
    cache = VectorCache(1 << 20)
    batcher = Batcher(tower.run, DIM, cache)
    for _ in range(2):
        batcher.embed([Rows([_ids([1, 2], [3, 4])])])
    assert tower.batches == [(2, 2), (2, 2)]
    assert (cache.hits, cache.misses) == (0, 0)
    batcher.embed([Rows([_ids([1, 2])])])
    assert tower.batches[-1] == (1, 2)


def test_errors_are_not_kept(tower):
    batcher = Batcher(tower.run, DIM, VectorCache(1 << 20))
    for _ in range(2):
        (result,) = batcher.embed([Rows([_ids([-1, 2])])])
        assert isinstance(result, ValueError)
    assert len(tower.batches) == 2


def test_unreadable_rows_are_zero(tower):
    readable = np.array([True, False, True])
    block = _ids([1, 2], [3, 4])
    some, none, every = Batcher(tower.run, DIM).embed(
        [
            Rows([block], readable),
            Rows([], np.array([False, False])),
            Rows([block], np.array([True, True])),
        ]
    )
    assert np.array_equal(some[readable], _alone(block))
    assert not some[1].any()
    assert none.shape == (2, DIM)
    assert none.dtype == np.float32
    assert not none.any()
    assert np.array_equal(every, _alone(block))


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def delay(pauses):
    seconds = iter([0.0, 10.0, 12.0])  # made, started, waited
    return BatchDelay(100, clock=lambda: next(seconds), sleep=pauses.append)


def test_the_delay_is_a_share_of_the_time_since_the_run_began(delay, pauses):
    delay.start()
    delay.wait()
    assert pauses == [pytest.approx(2 * WAIT_SHARE)]


def test_the_delay_helps_only_while_a_larger_batch_would_gain(delay):
    def row(length):
        return Rows([np.ones((1, length), dtype=np.int32)])

    assert delay.helps([row(16), row(32)])
    assert delay.helps([row(16), ValueError("bad"), Rows([])])
    assert not delay.helps([row(16)])  # nobody else is there
    assert not delay.helps([row(64), row(36)])  # 100 tokens are enough
    pixels = Rows([np.zeros((1, 3, 8, 8), dtype=np.uint8)])
    assert not delay.helps([pixels, pixels])  # an image is as much as a part may be
