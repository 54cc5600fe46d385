"""Which captions count as the same text."""

import numpy as np
import pytest
from vireo_training.data.same_text import text_numbers


@pytest.mark.parametrize(
    "other",
    [
        "  một con\u00a0cá\tmàu hoà bình\n",
        "một con cá màu hòa bình",
        "mo\u0323\u0302t con ca\u0301 ma\u0300u hoa\u0300 bi\u0300nh",
        "một con cá màu\u200b hoà bình",
    ],
)
def test_spelling_that_cannot_be_seen_makes_no_difference(other):
    one, same = text_numbers(["một con cá màu hoà bình", other])
    assert one == same


@pytest.mark.parametrize("other", ["Một con cá", "mot con ca", "một con cá.", "một con cà"])
def test_case_accents_and_punctuation_make_another_text(other):
    one, different = text_numbers(["một con cá", other])
    assert one != different


def test_numbers_are_those_of_any_other_process():
    assert text_numbers(["một con cá"]).tolist() == [-5608428415181785511]
    assert text_numbers([]).dtype == np.int64
