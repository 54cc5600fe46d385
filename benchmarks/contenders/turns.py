"""Runs contenders in turns, each in a process of its own.

What slows the machine for a while slows all of them alike, and no contender runs beside the
threads of another, which would spin on for some milliseconds after each call.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ..load.clients import Target
from ..load.loops import Ask

NOT_COUNTED = 3
"""Calls at the start of a turn, which find caches cold and threads asleep; fewer of slow ones."""


@dataclass
class Turns:
    """The calls of one contender, a list of seconds for each turn."""

    rounds: list[list[float]] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    """Seconds by stage of each call, from contenders that return them."""


@dataclass(frozen=True)
class Plan:
    """How long contenders are measured."""

    rounds: int
    """Turns of each contender."""
    calls: int
    """The most calls of a turn that count."""
    seconds: float
    """The length after which a turn of slow calls ends."""


def in_turns(contenders: Mapping[str, Target], plan: Plan) -> dict[str, Turns]:
    """Call each contender in turns and return what each took.

    Args:
        contenders: by name; each is opened in a process of its own.
        plan: how long they are measured.
    """
    context = multiprocessing.get_context("spawn")
    found = {name: Turns() for name in contenders}
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, mp_context=context, initializer=_open, initargs=(target,))
            )
            for name, target in contenders.items()
        }
        for pool in pools.values():  # one after the other: opening takes all cores
            pool.submit(_turn, 0, 1, plan.seconds).result()
        names = list(pools)
        for number in range(plan.rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                first = number * plan.calls
                seconds, stages = (
                    pools[name].submit(_turn, first, plan.calls, plan.seconds).result()
                )
                found[name].rounds.append(seconds)
                found[name].stages += stages
    return found


_asks: list[Ask] = []
"""The contender of this process."""


def _open(target: Target) -> None:
    _asks[:] = [target.open()]


def _turn(first: int, calls: int, limit: float) -> tuple[list[float], list[dict[str, float]]]:
    ask = _asks[0]
    warm = time.perf_counter() + limit / 3
    for number in range(NOT_COUNTED):
        ask(first + number)
        if time.perf_counter() > warm:
            break  # so slow a call does not depend on what caches held before
    seconds: list[float] = []
    stages: list[dict[str, float]] = []
    end = time.perf_counter() + limit
    for number in range(first, first + calls):
        start = time.perf_counter()
        answer: Any = ask(number)
        done = time.perf_counter()
        seconds.append(done - start)
        if isinstance(answer, dict):
            stages.append(answer)
        if done > end:
            break
    return seconds, stages
