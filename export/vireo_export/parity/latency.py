"""Time encoders against each other on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDS = 7
_SECONDS = 2.0
"""Time limit for one input; three rounds run in any case."""

Encode = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]


def median_seconds(encoders: Sequence[Encode], inputs: npt.NDArray[Any]) -> list[float]:
    """Return the median seconds of each encoder.

    They run in turns, so that other work on the machine slows all of them alike.
    """
    seconds: list[list[float]] = [[] for _ in encoders]
    for encode in encoders:
        encode(inputs)
    began = time.perf_counter()
    for number in range(_ROUNDS):
        if number >= 3 and time.perf_counter() - began > _SECONDS:
            break
        for encode, durations in zip(encoders, seconds, strict=True):
            start = time.perf_counter()
            encode(inputs)
            durations.append(time.perf_counter() - start)
    return [median(durations) for durations in seconds]
