"""Captions as people type them: without diacritics, in small or capital letters.

Each caption's variants are segmented and tokenized once, before training; a batch then only draws
among them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from ..config import TextAugmentation
from .diacritics import strip_diacritics


class Variant(NamedTuple):
    """One way to type a caption."""

    bare: bool
    """Without diacritics."""
    case: Literal["written", "lower", "upper"]


AS_WRITTEN = Variant(bare=False, case="written")


def variants(settings: TextAugmentation) -> tuple[Variant, ...]:
    """Return the variants with a rate above 0, as written first; `draw` returns places in it."""
    return tuple(_rates(settings))


def apply(variant: Variant, text: str) -> str:
    """Return raw text, before it is normalised, typed as `variant` says."""
    if variant.bare:
        text = strip_diacritics(text)
    if variant.case == "written":
        return text
    return text.lower() if variant.case == "lower" else text.upper()


def draw(settings: TextAugmentation, rng: np.random.Generator, count: int) -> list[int]:
    """Draw a variant for each of `count` captions, diacritics and case independently.

    Returns:
        Positions in `variants(settings)`.
    """
    rates = list(_rates(settings).values())
    return [int(number) for number in rng.choice(len(rates), count, p=rates)]


def _rates(settings: TextAugmentation) -> dict[Variant, float]:
    """Return the rate of each variant, without those of rate 0."""
    bare = {False: 1 - settings.bare, True: settings.bare}
    case: dict[Literal["written", "lower", "upper"], float] = {
        "written": 1 - (settings.lower + settings.upper),
        "lower": settings.lower,
        "upper": settings.upper,
    }
    return {
        Variant(is_bare, name): bare_rate * case_rate
        for is_bare, bare_rate in bare.items()
        for name, case_rate in case.items()
        if bare_rate * case_rate > 0
    }
