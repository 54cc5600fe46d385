"""Load: what an open loop counts, what a closed loop hides, and clients in other processes."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from benchmarks.load.clients import FunctionTarget
from benchmarks.load.loops import Answers, Ask, arrivals, closed_loop, open_loop
from benchmarks.load.processes import Clients

STALL = 0.5


class Stalling:
    """A server that answers at once, and stalls for everybody when it is asked number 20."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, number: int) -> None:
        with self._lock:
            if number == 20:
                time.sleep(STALL)


def test_an_open_loop_shows_a_stall_in_every_request_that_it_held_up() -> None:
    times = [n / 200 for n in range(200)]  # the stall holds up those of half a second
    answers = open_loop(Stalling(), times, time.perf_counter() + 0.05)
    assert len(answers.seconds) == len(times)
    # However slow this machine is, requests of the stall cannot have been answered before its end.
    held_up = [due for due in times if 20 / 200 < due < 20 / 200 + STALL / 2]
    late = [second for second in answers.seconds if second > STALL / 2]
    assert len(late) >= len(held_up)


def test_a_closed_loop_asks_less_while_the_server_stalls() -> None:
    begin = time.perf_counter()
    answers = closed_loop(Stalling(), clients=1, begin=begin, end=begin + STALL / 2)
    # One client was in the stall, if it came so far: one slow sample, where the open loop has many.
    assert sum(second > STALL / 2 for second in answers.seconds) <= 1


def test_an_open_loop_counts_waiting_for_a_free_client() -> None:
    def slow(number: int) -> None:
        time.sleep(0.05)

    answers = open_loop(slow, [0.0] * 10, time.perf_counter(), most_open=1)
    # Asked one after the other, the last one waits for nine others.
    assert max(answers.seconds) >= 10 * 0.05


def test_failures_are_counted_and_are_no_latencies() -> None:
    def failing(number: int) -> None:
        if number % 2:
            raise ConnectionError("gone")

    answers = open_loop(failing, [0.0] * 6, time.perf_counter())
    assert len(answers.seconds) == 3
    assert answers.failures == ["ConnectionError: gone"] * 3


def test_arrivals_are_poisson_and_repeatable() -> None:
    times = arrivals(rate=500, seconds=20, seed=1)
    assert times == arrivals(rate=500, seconds=20, seed=1) != arrivals(500, 20, seed=2)
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < 20
    assert len(times) == pytest.approx(10_000, rel=0.05)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    # Of exponential gaps, mean and deviation are equal.
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.1)


def test_a_rate_counts_answers_within_the_period() -> None:
    answers = Answers(spans=[(0.0, 0.5), (0.1, 1.5), (0.2, 2.5)])
    assert answers.rate(0.0, 2.0) == 1.0


def _sleeper() -> Ask:
    return lambda number: time.sleep(0.001)


def test_clients_in_processes_answer_for_all_of_them() -> None:
    with Clients(FunctionTarget(_sleeper), clients=3) as clients:
        # Long enough for each process to ask, however busy the machine is.
        closed = clients.closed(3, seconds=2, warm=0.0)
        opened = clients.open(rate=100, seconds=0.2, seed=0)
    assert len(closed.answers.seconds) >= 3
    assert not closed.answers.failures
    assert closed.facts["client_cores"] >= 0
    expected = sum(len(arrivals(100 / 3, 0.2, n)) for n in range(3))
    assert opened.facts == opened.facts | {"answers": expected, "failed": 0}
    assert opened.facts["offered_per_second"] == 100
