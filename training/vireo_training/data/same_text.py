"""Which captions say the same: they are each other's right answers, and no negatives.

Short captions recur under many images ("Một người đàn ông đang chơi quần vợt"). What is right for
one of those images is then right for all of them, in losses and in metrics alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from vireo_client.text.normalize import normalize

Texts = npt.NDArray[np.int64]
"""INT64 `[T]`, a number for each caption; equal texts have equal numbers."""


def text_key(text: str) -> str:
    """Return what equal texts share: their spelling after today's normalisation.

    Unicode form, white space, invisible characters and the place of tone marks are ignored; case,
    diacritics and punctuation are not. It is the same whatever bundle is measured, so that all
    models have the same right answers.
    """
    return normalize(text)


def text_numbers(texts: Iterable[str]) -> Texts:
    """Return a number for each text, made from `text_key` alone.

    So captions numbered apart, or by another process, can be compared. It is a hash of 64 bits: in
    ten million different texts two share a number by accident with a probability of 3 in a million.
    """
    digests = (hashlib.blake2b(text_key(text).encode(), digest_size=8).digest() for text in texts)
    return np.array(
        [int.from_bytes(digest, "big", signed=True) for digest in digests], dtype=np.int64
    )
