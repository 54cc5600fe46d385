import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from vireo_client.overlap import batched, map_ahead


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as value:
        yield value


def test_results_come_in_the_order_of_the_items(pool):
    ready = threading.Event()

    def work(number):
        if number == 0:
            assert ready.wait(30)
        if number == 3:
            ready.set()  # the first waits for the fourth, which overtakes it
        return number * 2

    assert list(map_ahead(pool, work, range(20), 4)) == list(range(0, 40, 2))
    assert list(map_ahead(pool, work, [], 4)) == []


@pytest.mark.parametrize("ahead", [1, 3, 10])
def test_no_more_items_are_taken_than_it_works_ahead(pool, ahead):
    taken = 0

    def items():
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    for done, _ in enumerate(map_ahead(pool, str, items(), ahead)):
        assert taken <= done + ahead


def test_an_error_comes_when_its_turn_comes_and_what_waits_is_cancelled():
    blocked, begun = threading.Event(), []
    with ThreadPoolExecutor(1) as pool:

        def work(number):
            begun.append(number)
            if number == 2:
                raise ValueError("two")
            if number > 2:
                assert blocked.wait(30)
            return number

        results = map_ahead(pool, work, range(100), 10)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(results)
        blocked.set()
    assert len(begun) <= 4


def test_closing_cancels_what_has_not_begun():
    blocked, begun = threading.Event(), []
    with ThreadPoolExecutor(1) as pool:

        def work(number):
            begun.append(number)
            if number:
                assert blocked.wait(30)

        results = map_ahead(pool, work, range(100), 10)
        next(results)
        results.close()
        blocked.set()
    assert len(begun) <= 2


def test_batches_are_full_but_the_last():
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batched([], 3)) == []
    sizes = [len(batch) for batch in batched(range(30), 8, first=2)]
    assert sizes == [2, 4, 8, 8, 8]
    assert list(map(len, batched(range(5), 3, first=9))) == [3, 2]
