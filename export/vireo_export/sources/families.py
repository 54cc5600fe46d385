"""The families of dual encoders in transformers that can be exported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How the models of one `model_type` read a text."""

    causal: bool = False
    """No token sees what follows it, and the vector is taken at the end of the text: padding is
    never seen, and needs no mask."""
    fixed_length: bool = False
    """The vector is taken at the last position, padding or not: all texts have one length."""
    longest: int | None = None
    """The longest text, in tokens, where the position table has room for more than was trained."""
    first_position: int = 0
    """RoBERTa's position tables keep their first rows for themselves."""


FAMILIES = {
    "align": Family(longest=64),
    "altclip": Family(first_position=2),
    "chinese_clip": Family(),
    "clip": Family(causal=True),
    "metaclip_2": Family(causal=True),
    "siglip": Family(fixed_length=True),
}
