"""Choose a structure's parameters: the cheapest that reach a recall, measured against exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..threads import threads
from .master import Floats, Master, Rows
from .structure import TOP, Structure

QUERIES = 300
"""Queries of each sort."""
STEP = 0.4
"""How far a query lies between vectors, as a part of the difference of two of them. New photos are
about as hard to find the neighbours of as queries with 0.33 (`benchmarks/index.py`)."""


class Trial(NamedTuple):
    """Queries and their exact answers."""

    queries: Floats
    truth: Rows
    """INT64 `[M, 10]`, without the query's own row."""
    own: Rows
    """INT64 `[M]`: the row that a query is, which must not count; -1 where it is none."""
    sorts: tuple[slice, ...]
    """Where the queries of each sort lie."""


def trial(master: Master, seed: int, queries: Floats | None = None) -> Trial:
    """Make queries of two or three sorts, and answer them by comparing with every vector.

    First, vectors of the index, each left out of its own answer. Second, vectors moved by a part of
    the difference of two others, since what users ask for is not in the index; the difference keeps
    to the directions in which the vectors do differ. Third, the caller's `queries`, if any:
    embeddings of captions lie apart from those of images.
    """
    rng = np.random.default_rng(seed)
    count = min(QUERIES, master.rows)
    own = np.sort(rng.choice(master.rows, count, replace=False)).astype(np.int64)
    one, two, base = (master.vectors[rng.integers(master.rows, size=count)] for _ in range(3))
    parts = [np.array(master.vectors[own]), base + STEP * (one - two)]
    if queries is not None and len(queries):
        given = rng.choice(len(queries), min(QUERIES, len(queries)), replace=False)
        parts.append(np.asarray(queries[given], dtype=np.float32))
    ends = np.cumsum([len(part) for part in parts])
    made = np.concatenate(parts, dtype=np.float32)
    made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
    own = np.concatenate([own, np.full(len(made) - count, -1)])
    with threads(len(made)):
        _, truth = master.search(made, min(TOP + 1, master.rows), None)
    sorts = tuple(slice(end - len(part), end) for part, end in zip(parts, ends, strict=True))
    return Trial(made, _without(truth, own), own, sorts)


def tune(structure: Structure, trial: Trial, target: float) -> dict[str, Any]:
    """Find the cheapest knob value and factor whose recall@10 is `target` or more.

    For each factor the least value is found by bisection; what the pair costs is counted in
    comparisons, not timed, so that the choice does not depend on the machine's load. The recall is
    that of the sort of queries that has the least.

    Returns:
        `factor`, the knob's value under its name, and `recall@10`.
    """
    kind = structure.kind
    limit = kind.knob_limit(structure.index) if kind.knob else 1
    measured: dict[int, dict[int, float]] = {}

    def measure(value: int, factor: int) -> float:
        if value not in measured:
            measured[value] = _recalls(structure, trial, value)
        return measured[value][factor]

    tuned = []
    for factor in kind.factors:
        low = max(kind.knob_least, factor * TOP if kind.knob == "ef" else 1)
        value = least(lambda value: measure(value, factor) >= target, min(low, limit), limit)  # noqa: B023
        recall = measure(value, factor)
        cost = factor * TOP + value * _rows_a_step(structure) * kind.row_cost
        reached = recall >= target
        rank = (not reached, cost if reached else -recall)
        tuned.append((rank, value, factor, recall))
    _, value, factor, mean = min(tuned)
    best: dict[str, Any] = {"factor": factor, "recall@10": round(mean, 4)}
    return best if kind.knob is None else {**best, kind.knob: value}


def _recalls(structure: Structure, trial: Trial, value: int) -> dict[int, float]:
    """Measure the least recall@10 of a sort for each of the kind's factors, with one search.

    The best candidates of a large factor are those of a small one; and as they are compared again
    with the master, one of the true ten is found wherever it is among them.
    """
    factors = structure.kind.factors
    fetch = min(max(factors) * TOP + 1, structure.master.rows)
    with threads(len(trial.queries)):
        rows = structure.candidates(trial.queries, fetch, value)
    place = _without(rows, trial.own)
    found = {}
    for factor in factors:
        hits = (place[:, None, : factor * TOP] == trial.truth[:, :, None]).any(axis=2)
        each = hits.mean(axis=1) if trial.truth.shape[1] else np.ones(len(hits))
        found[factor] = min(float(each[sort].mean()) for sort in trial.sorts)
    return found


def least(reaches: Callable[[int], bool], low: int, limit: int) -> int:
    """Return the least value from `low` to `limit` that `reaches`, else `limit`."""
    value = low
    while not reaches(value):  # doubling first: most of the range is far too expensive
        if value == limit:
            return limit
        low, value = value + 1, min(2 * value, limit)
    high = value
    while low < high:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _rows_a_step(structure: Structure) -> float:
    """Return how many codes one more of the knob compares, about."""
    if structure.kind.knob == "nprobe":
        return structure.master.rows / structure.kind.knob_limit(structure.index)
    return 16.0  # a graph's candidate, whose links mostly lead to vectors seen before


def _without(rows: Rows, own: Rows) -> Rows:
    """Drop each query's own row, or the last one where it is not there."""
    if rows.shape[1] <= 1:
        return rows[:, :0]
    mine = (rows == own[:, None]) & (rows >= 0)
    mine[~mine.any(axis=1), -1] = True
    kept: Rows = rows[~mine].reshape(len(rows), -1)
    return kept
