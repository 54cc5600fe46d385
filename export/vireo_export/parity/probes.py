"""Inputs of every shape that a tower is served with, even where no caption has that length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client.bundle import TextSpec
from vireo_client.text.pipeline import TextPath
from vireo_client.text.tokenize import pad_ids

ROWS = 16
_JOINED = 12
"""The largest number of captions that are joined to reach a long bucket."""


def text_probes(
    text_path: TextPath, captions: Sequence[str], spec: TextSpec
) -> dict[int | None, npt.NDArray[Any]]:
    """Return up to `ROWS` rows of real ids for every bucket.

    A bucket without enough captions is filled with captions that are joined or cut to its length.
    If no such caption fits, rows of the shorter bucket are padded to its length.

    Args:
        text_path: turns captions into ids.
        captions: at least one caption.
        spec: the bundle's buckets and padding.

    Returns:
        INT32 `[N, bucket]` by bucket.
    """
    rows: dict[int, list[npt.NDArray[np.int32]]] = {bucket: [] for bucket in spec.buckets}
    for texts in _texts(captions):
        for _, ids in text_path.encode(texts):
            bucket_rows = rows[ids.shape[1]]
            bucket_rows += list(ids[: ROWS - len(bucket_rows)])
        if all(len(bucket_rows) == ROWS for bucket_rows in rows.values()):
            break
    shorter: list[npt.NDArray[np.int32]] = []
    for bucket in spec.buckets:
        missing = ROWS - len(rows[bucket])
        rows[bucket] += list(pad_ids(shorter[:missing], bucket, spec.pad_id, spec.pad_side))
        shorter = rows[bucket]
    return {bucket: np.stack(filled) for bucket, filled in rows.items() if filled}


def _texts(captions: Sequence[str]) -> Iterator[list[str]]:
    """Yield captions, then captions joined in growing numbers, then their first words."""
    limit = 8 * ROWS
    yield list(captions[:limit])
    for count in range(2, _JOINED + 1):
        yield [
            " ".join(captions[(start + i) % len(captions)] for i in range(count))
            for start in range(0, min(limit, len(captions)), count)
        ]
    for words in (6, 3, 1):
        yield [" ".join(caption.split()[:words]) for caption in captions[:limit]]


def batch_shapes(rows: npt.NDArray[Any]) -> tuple[int, ...]:
    """Return the batch sizes to run `rows` in: one row, and all rows."""
    return tuple(sorted({1, len(rows)}))
