from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vireo_client.index.fusion import fuse

RANKINGS = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=10), max_size=3)


def test_an_id_that_both_rankings_have_leads():
    assert fuse([[1, 2, 3], [4, 2]]) == [
        (2, pytest.approx(2 / 62)),
        (1, pytest.approx(1 / 61)),
        (4, pytest.approx(1 / 61)),
        (3, pytest.approx(1 / 63)),
    ]


def test_ties_go_to_the_first_ranking():
    assert [i for i, _ in fuse([[9, 5], [5, 9]])] == [9, 5]
    assert [i for i, _ in fuse([[5, 9], [9, 5]])] == [5, 9]


@pytest.mark.parametrize("rankings", [[], [[]], [[], []]])
def test_nothing_fused_is_nothing(rankings):
    assert fuse(rankings) == []


@given(RANKINGS)
def test_fusing_equals_the_formula_in_exact_arithmetic(rankings):
    def exact(id_):
        return sum(Fraction(1, 60 + r.index(id_) + 1) for r in rankings if id_ in r)

    def place(id_):
        return tuple(r.index(id_) if id_ in r else 99 for r in rankings)

    ids = {id_ for ranking in rankings for id_ in ranking}
    expected = sorted(ids, key=lambda id_: (-exact(id_), place(id_)))
    fused = fuse(rankings)
    assert [id_ for id_, _ in fused] == expected
    assert all(score == pytest.approx(float(exact(id_))) for id_, score in fused)
