"""Runs the load's clients in processes of their own, all over the same period."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from .clients import Target
from .loops import Answers, Ask, arrivals, closed_loop, open_loop

PROCESSES = 4
"""The most processes for clients: Python runs one thread of a process at a time."""
_START = 0.3
"""Seconds from the order to the first request, so that all processes begin together."""


@dataclass
class Load:
    """The answers to one load, over the period that counts."""

    answers: Answers
    seconds: float
    per_second: float
    offered: float | None = None
    """Requests a second that an open loop meant to send."""

    @property
    def facts(self) -> dict[str, Any]:
        """What belongs to a figure of this load."""
        facts: dict[str, Any] = {
            "answers": len(self.answers.spans),
            "failed": len(self.answers.failures),
            "client_cores": round(self.answers.cpu_seconds / self.seconds, 3),
        }
        if self.answers.failures:
            facts["first_failure"] = self.answers.failures[0]
        if self.offered is not None:
            facts["offered_per_second"] = round(self.offered, 2)
        return facts


class Clients:
    """Processes with clients of one target. Use it in a `with` block.

    Args:
        target: what is asked.
        clients: how many clients a closed loop will have at most; processes are made for these.
    """

    def __init__(self, target: Target, clients: int) -> None:
        self._processes = min(clients, PROCESSES)
        context = multiprocessing.get_context("spawn")
        # A pool for each process: every order reaches the process that it is meant for.
        self._pools = [
            ProcessPoolExecutor(1, mp_context=context, initializer=_open_target, initargs=(target,))
            for _ in range(self._processes)
        ]

    def __enter__(self) -> Clients:
        # Each starts, imports and opens its connection before anything is measured.
        for future in [pool.submit(_warm, n) for n, pool in enumerate(self._pools)]:
            future.result()
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools:
            pool.shutdown()

    def closed(self, clients: int, seconds: float, warm: float = 0.5) -> Load:
        """Ask with `clients` clients for `seconds`, after `warm` seconds that do not count."""
        processes = min(clients, self._processes)
        shares = [len(range(n, clients, processes)) for n in range(processes)]
        self._run(_closed, [(share, warm, n) for n, share in enumerate(shares)])
        begin, answers = self._run(_closed, [(share, seconds, n) for n, share in enumerate(shares)])
        return Load(answers, seconds, answers.rate(begin, begin + seconds))

    def open(self, rate: float, seconds: float, seed: int) -> Load:
        """Ask at Poisson times, `rate` a second on average, for `seconds`."""
        share = rate / self._processes
        # The arrivals of independent Poisson processes together are one, too.
        work = [(arrivals(share, seconds, seed + n), n) for n in range(self._processes)]
        begin, answers = self._run(_open, work)
        return Load(answers, seconds, answers.rate(begin, begin + seconds), offered=rate)

    def _run(self, work: Callable[..., Answers], shares: list[Any]) -> tuple[float, Answers]:
        begin = time.perf_counter() + _START  # one clock for all processes of a machine
        futures = [
            pool.submit(work, begin, *share)
            for pool, share in zip(self._pools, shares, strict=False)
        ]
        answers = Answers()
        for future in futures:
            answers.take(future.result())
        return begin, answers


_asks: list[Ask] = []
"""The open target of this process, a client's."""


def _open_target(target: Target) -> None:
    _asks[:] = [target.open()]


def _warm(number: int) -> None:
    _asks[0](number)


def _closed(begin: float, clients: int, seconds: float, number: int) -> Answers:
    return closed_loop(_asks[0], clients, begin, begin + seconds, first=1000 * number)


def _open(begin: float, times: list[float], number: int) -> Answers:
    return open_loop(_asks[0], times, begin, first=1000 * number)
