"""Choose a structure's parameters: the cheapest that reach a recall, measured against exact."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .master import Floats, Master, Rows
from .structure import Structure
from .threads import threads

QUERIES = 400
"""Queries of a measurement, half of them the index's own vectors."""
TOP = 10


class Trial(NamedTuple):
    """Queries and their exact answers."""

    queries: Floats
    truth: Rows
    """INT64 `[M, 10]`, without the query's own row."""
    own: Rows
    """INT64 `[M]`: the row that a query is, which must not count; -1 where it is none."""


def trial(master: Master, seed: int, queries: Floats | None = None) -> Trial:
    """Make queries, and answer them by comparing with every vector.

    A third of them at least are vectors of the index, each left out of its own answer. Another
    third lies between: a vector and a third of the difference of two others, since what users ask
    for is not in the index; the difference keeps to the directions in which the vectors do differ.
    The last third is the caller's `queries`, where there are any: embeddings of captions lie apart
    from those of images.
    """
    rng = np.random.default_rng(seed)
    count = min(QUERIES, master.rows)
    picked = np.sort(rng.choice(master.rows, count, replace=False))
    own = picked.astype(np.int64)
    made = np.array(master.vectors[picked])
    between = slice(count // 2, count)
    pairs = rng.integers(master.rows, size=(2, count - count // 2))
    made[between] += (master.vectors[pairs[0]] - master.vectors[pairs[1]]) / 3
    made[between] /= np.maximum(np.linalg.norm(made[between], axis=1, keepdims=True), 1e-12)
    own[between] = -1
    if queries is not None and len(queries):
        given = rng.choice(len(queries), min(QUERIES // 2, len(queries)), replace=False)
        made = np.concatenate([made, np.asarray(queries[given], dtype=np.float32)])
        own = np.concatenate([own, np.full(len(given), -1)])
    made = np.ascontiguousarray(made)
    with threads(len(made)):
        _, truth = master.search(made, min(TOP + 1, master.rows), None)
    return Trial(made, _without(truth, own), own)


def recalls(structure: Structure, trial: Trial, value: int, factor: int) -> npt.NDArray[np.float64]:
    """Measure each query's recall@10, `[M]`, with these parameters."""
    with threads(len(trial.queries)):
        _, rows = structure.candidates(
            trial.queries, min(TOP + 1, structure.master.rows), value, factor
        )
    found = _without(rows, trial.own)
    hits = (found[:, :, None] == trial.truth[:, None, :]).any(axis=1)
    return hits.mean(axis=1) if trial.truth.shape[1] else np.ones(len(found))


def tune(structure: Structure, trial: Trial, target: float) -> dict[str, Any]:
    """Find the cheapest knob value and factor whose recall@10 is `target` or more.

    For each factor the least value is found by bisection; what the pair costs is counted in
    comparisons, not timed, so that the choice does not depend on the machine's load. One standard
    error is kept as a margin, since another sample of queries would measure a little less.
    """
    kind, best = structure.kind, None
    for factor in kind.factors:
        value, recall, reached = _least(structure, trial, target, factor)
        cost = factor * TOP + value * _rows_a_step(structure) * kind.row_cost
        rank = (not reached, cost if reached else -recall)
        if best is None or rank < best[0]:
            best = (rank, value, factor, recall)
    assert best is not None
    tuned: dict[str, Any] = {"factor": best[2], "recall@10": round(best[3], 4)}
    if kind.knob is not None:
        tuned[kind.knob] = best[1]
    return tuned


def _least(
    structure: Structure, trial: Trial, target: float, factor: int
) -> tuple[int, float, bool]:
    """Return the least knob value that reaches `target`, its recall, and whether it does."""
    kind = structure.kind
    low, high = kind.knob_least, kind.knob_limit(structure.index) if kind.knob else 1
    measured: dict[int, tuple[float, bool]] = {}

    def reaches(value: int) -> bool:
        each = recalls(structure, trial, value, factor)
        margin = each.std() / len(each) ** 0.5
        measured[value] = float(each.mean()), bool(each.mean() >= min(target + margin, 1.0))
        return measured[value][1]

    value = min(max(8, low), high)
    while not reaches(value):  # doubling first: most of the range is far too expensive
        if value == high:
            return value, *measured[value]
        low, value = value + 1, min(2 * value, high)
    high = value
    while low < high:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle + 1
    return high, *measured[high]


def _rows_a_step(structure: Structure) -> float:
    """Return how many codes one more of the knob compares, about."""
    if structure.kind.knob == "nprobe":
        return structure.master.rows / structure.kind.knob_limit(structure.index)
    return 16.0  # a graph's candidate, whose links mostly lead to vectors seen before


def _without(rows: Rows, own: Rows) -> Rows:
    """Drop each query's own row, or the last one, from `[M, 11]`."""
    if rows.shape[1] <= 1:
        return rows[:, :0]
    mine = rows == own[:, None]
    mine[~mine.any(axis=1), -1] = True
    kept: Rows = rows[~mine].reshape(len(rows), -1)
    return kept
