"""A cache of the embeddings of rows that came before."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

_ENTRY = 256
"""Bytes that an entry takes beside its key and its embedding, about."""


class VectorCache:
    """Keeps the embeddings used last. For one thread.

    Args:
        size: bytes that it may take; 0 keeps nothing.
    """

    def __init__(self, size: int) -> None:
        self.hits = 0
        """Look-ups that found an embedding, since the beginning."""
        self.misses = 0
        """Look-ups that found none."""
        self._size = size
        self._used = 0
        self._vectors: OrderedDict[bytes, npt.NDArray[np.float32]] = OrderedDict()

    def get(self, key: bytes) -> npt.NDArray[np.float32] | None:
        """Return the embedding of `key`, FP32 `[1, D]`, or None."""
        vector = self._vectors.get(key)
        if vector is None:
            self.misses += 1
        else:
            self.hits += 1
            self._vectors.move_to_end(key)
        return vector

    def put(self, key: bytes, vector: npt.NDArray[np.float32]) -> None:
        """Keep a copy of an embedding, which may be a row of a large batch."""
        taken = _ENTRY + len(key) + vector.nbytes
        if taken > self._size or key in self._vectors:
            return
        self._vectors[key] = vector.copy()
        self._used += taken
        while self._used > self._size:
            old, dropped = self._vectors.popitem(last=False)
            self._used -= _ENTRY + len(old) + dropped.nbytes
