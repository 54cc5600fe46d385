"""Captions as people type them: without diacritics, in small or capital letters.

Each caption's variants are segmented and tokenized once, before training; a batch then only draws
which of them it takes.
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
    """The variants that are drawn at all, those as written first; what `draw` counts through."""
    return tuple(_rates(settings))


def apply(variant: Variant, text: str) -> str:
    """Types a caption that way. It takes and gives raw text, before it is normalised."""
    if variant.bare:
        text = strip_diacritics(text)
    if variant.case == "written":
        return text
    return text.lower() if variant.case == "lower" else text.upper()


def draw(settings: TextAugmentation, rng: np.random.Generator, count: int) -> list[int]:
    """Draws a variant for each of `count` captions, diacritics and case independently.

    Returns:
        Positions in `variants(settings)`.
    """
    rates = list(_rates(settings).values())
    return [int(number) for number in rng.choice(len(rates), count, p=rates)]


def _rates(settings: TextAugmentation) -> dict[Variant, float]:
    """How often each variant is drawn; those that never are left out."""
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
