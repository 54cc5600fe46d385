"""Fuses rankings whose scores cannot be compared: reciprocal rank fusion.

Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank
Learning Methods", SIGIR 2009.
"""

from __future__ import annotations

from collections.abc import Sequence

K = 60
"""The paper's constant: how little the first ranks differ."""


def fuse(rankings: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """Fuse rankings of ids to one.

    Args:
        rankings: ids, best first, each at most once in a ranking.

    Returns:
        Id and score, the sum of 1 / (K + rank) over the rankings, best first. Of equal scores, the
        id comes first that is higher in the first ranking, then in the second and so on; an id that
        a ranking lacks is last in it.
    """
    places = [{id_: rank for rank, id_ in enumerate(ranking, 1)} for ranking in rankings]
    scores: dict[int, float] = {}
    for id_ in dict.fromkeys(id_ for ranking in rankings for id_ in ranking):
        # Added from the smallest, so that the same ranks in another order give the same sum.
        scores[id_] = sum(sorted(1.0 / (K + place[id_]) for place in places if id_ in place))
    last = max((len(ranking) for ranking in rankings), default=0) + 1

    def order(id_: int) -> tuple[float, tuple[int, ...], int]:
        return -scores[id_], tuple(place.get(id_, last) for place in places), id_

    return [(id_, scores[id_]) for id_ in sorted(scores, key=order)]
