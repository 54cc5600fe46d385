"""The families of dual encoders in transformers that can be exported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """Properties of the text towers of one `model_type`."""

    causal: bool = False
    """Whether attention is causal and the embedding is taken at the end of the text. Padding then
    has no effect and needs no mask."""
    fixed_length: bool = False
    """Whether the embedding is taken at the last position, so that all texts must be padded to one
    length."""
    longest: int | None = None
    """Longest text in tokens that was trained, where the position table is longer."""
    first_position: int = 0
    """Rows at the start of RoBERTa's position tables that no token uses."""


FAMILIES = {
    "align": Family(longest=64),
    "altclip": Family(first_position=2),
    "chinese_clip": Family(),
    "clip": Family(causal=True),
    "metaclip_2": Family(causal=True),
    "siglip": Family(fixed_length=True),
}
