"""The lengths to which ids are padded."""

from __future__ import annotations

from collections.abc import Sequence

BUCKETS = (16, 32, 64, 256)
"""The lengths, in tokens, unless a bundle says otherwise; PhoBERT takes 256."""


def check_buckets(buckets: Sequence[int], least: int) -> None:
    """Check that buckets ascend, and that the first is `least` or more.

    Raises:
        ValueError: they do not; the message says how they must be.
    """
    if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < least:
        raise ValueError(
            f"buckets are {tuple(buckets)}; they must ascend and start at {least} or more"
        )
