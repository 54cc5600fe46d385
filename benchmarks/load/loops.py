"""Two ways to load a server, over any function that asks once.

A closed loop has N clients, each of which asks again as soon as it is answered: when the server
stalls, the clients ask less, and one slow answer is one sample. An open loop asks at times that are
fixed beforehand, as people do who do not know of each other, and counts latency from the time at
which a request should have been sent: a stall shows in every request that it held up. (Gil Tene
calls the fault of the closed loop "coordinated omission".)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np

Ask = Callable[[int], object]
"""Sends request number N and returns when it is answered; raises when it is not."""


@dataclass
class Answers:
    """What clients saw: a time span for each answer, and each failure's message."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    """(intended start, end) by `time.perf_counter`, in the order of the answers."""
    failures: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0
    """Processor time of the clients' own processes while they asked."""

    def take(self, other: Answers) -> None:
        """Take over the answers of other clients."""
        self.spans += other.spans
        self.failures += other.failures
        self.cpu_seconds += other.cpu_seconds

    @property
    def seconds(self) -> list[float]:
        """The latency of each answer, from its intended start."""
        return [end - start for start, end in self.spans]

    def rate(self, begin: float, end: float) -> float:
        """Return the answers a second that arrived between two times."""
        return sum(begin <= done < end for _, done in self.spans) / (end - begin)


def closed_loop(ask: Ask, clients: int, begin: float, end: float, first: int = 0) -> Answers:
    """Ask with `clients` threads that never pause, between two times.

    Args:
        ask: sends one request.
        clients: how many threads ask.
        begin: when to start, by `time.perf_counter`.
        end: when to send no more; an answer under way is waited for.
        first: the first request's number; clients take numbers in turn from it on.
    """
    answers = [Answers() for _ in range(clients)]

    def work(number: int) -> None:
        mine, turn = answers[number], first + number
        _sleep_until(begin)
        while (start := time.perf_counter()) < end:
            _one(ask, turn, start, mine)
            turn += clients

    before = time.process_time()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _joined(answers, time.process_time() - before)


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Return the times of Poisson arrivals, in seconds from the start.

    Args:
        rate: arrivals a second, on average.
        seconds: the length of the period.
        seed: the same seed gives the same times.
    """
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / rate, size=int(rate * seconds * 2) + 50)
    times = np.cumsum(gaps)
    return [float(t) for t in times[times < seconds]]


def open_loop(
    ask: Ask, times: Sequence[float], begin: float, first: int = 0, most_open: int = 256
) -> Answers:
    """Ask at given times, whether or not earlier requests have been answered.

    Args:
        ask: sends one request.
        times: when to send each, in seconds from `begin`, ascending.
        begin: the zero of `times`, by `time.perf_counter`.
        first: the first request's number.
        most_open: requests that may be open at once. One more waits here, and its wait counts: it
            should have been sent.
    """
    answers = Answers()
    before = time.process_time()
    with ThreadPoolExecutor(most_open) as pool:
        pending = []
        for number, due in enumerate(times):
            _sleep_until(begin + due)
            pending.append(pool.submit(_one, ask, first + number, begin + due, answers))
        wait(pending)
    for future in pending:
        future.result()
    answers.cpu_seconds = time.process_time() - before
    return answers


def _one(ask: Ask, number: int, start: float, answers: Answers) -> None:
    try:
        ask(number)
    except Exception as error:  # any failure of a request is a finding, and is reported
        answers.failures.append(f"{type(error).__name__}: {error}"[:200])
    else:
        answers.spans.append((start, time.perf_counter()))  # one step: threads may share the list


def _joined(parts: Sequence[Answers], cpu_seconds: float) -> Answers:
    answers = Answers()
    for part in parts:
        answers.take(part)
    answers.cpu_seconds = cpu_seconds
    return answers


def _sleep_until(moment: float) -> None:
    if (left := moment - time.perf_counter()) > 0:
        time.sleep(left)
