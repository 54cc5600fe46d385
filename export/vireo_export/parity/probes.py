"""Inputs of every shape that a tower is served with, whether captions reach it or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import TextSpec
from vireo_client.text.pipeline import TextPath

ROWS = 16
_JOINED = 12
"""The most captions that are joined to reach a long bucket."""


def text_probes(
    text_path: TextPath, captions: Sequence[str], spec: TextSpec
) -> dict[int | None, npt.NDArray[Any]]:
    """Gives up to `ROWS` rows of real ids for every bucket.

    A bucket that captions do not fill gets captions joined or cut until they reach it, and where
    that leaps over it, shorter ones padded to its length.

    Args:
        text_path: makes ids of captions.
        captions: at least one.
        spec: the bundle's buckets and padding.

    Returns:
        INT32 `[N, bucket]` by bucket.
    """
    rows: dict[int, list[npt.NDArray[np.int32]]] = {bucket: [] for bucket in spec.buckets}
    for texts in _texts(captions):
        for _, ids in text_path.encode(texts):
            wanted = rows[ids.shape[1]]
            wanted += list(ids[: ROWS - len(wanted)])
        if all(len(found) == ROWS for found in rows.values()):
            break
    shorter: list[npt.NDArray[np.int32]] = []
    for bucket in spec.buckets:
        missing = ROWS - len(rows[bucket])
        for row in shorter[:missing]:
            pad = (0, bucket - len(row))
            rows[bucket].append(np.pad(row, pad, constant_values=spec.pad_id))
        shorter = rows[bucket]
    return {bucket: np.stack(found) for bucket, found in rows.items() if found}


def _texts(captions: Sequence[str]) -> Iterator[list[str]]:
    """Captions, more and more of them joined, and at last only their beginnings."""
    few = 8 * ROWS
    yield list(captions[:few])
    for count in range(2, _JOINED + 1):
        yield [
            " ".join(captions[(start + i) % len(captions)] for i in range(count))
            for start in range(0, min(few, len(captions)), count)
        ]
    for words in (6, 3, 1):
        yield [" ".join(caption.split()[:words]) for caption in captions[:few]]


def batch_shapes(rows: npt.NDArray[Any]) -> tuple[int, ...]:
    """The batches to run `rows` in: one by one, and all at once."""
    return tuple(sorted({1, len(rows)}))
