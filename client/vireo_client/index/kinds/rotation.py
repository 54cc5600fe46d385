"""The directions that product quantisation keeps, and how they are paired."""

from __future__ import annotations

import numpy as np

from .master import Floats

VARIANCE = 0.9
"""The share of the variance that the kept directions hold, where half of them can."""
PAIR = 2


def balanced_directions(sample: Floats) -> Floats:
    """Return the main directions of `sample` FP32 `[S, D]`, in pairs of even weight: `[d, D]`.

    A pair of directions shares sixteen values, whatever it holds. So a strong direction is paired
    with a weak one, which leaves it most of the four bits: the products of the pairs' variances are
    made alike (eigenvalue allocation; Ge et al., Optimized Product Quantization, 2013, section 4).
    """
    dim = sample.shape[1]
    variance, axes = np.linalg.eigh(np.cov(sample, rowvar=False, dtype=np.float64))
    variance, axes = np.maximum(variance[::-1], 1e-12), axes[:, ::-1]
    needed = 1 + int(np.searchsorted(np.cumsum(variance), VARIANCE * variance.sum()))
    kept = dim if dim <= 64 else min(-(-needed // 32) * 32, dim // 2)
    kept -= kept % PAIR
    pairs: list[list[int]] = [[] for _ in range(kept // PAIR)]
    weight = np.zeros(len(pairs))
    for direction in range(kept):
        open_pairs = [n for n, pair in enumerate(pairs) if len(pair) < PAIR]
        lightest = min(open_pairs, key=lambda n: (weight[n], n))
        pairs[lightest].append(direction)
        weight[lightest] += np.log(variance[direction] / variance[kept - 1]) + 1e-6
    order = [direction for pair in pairs for direction in pair]
    return np.ascontiguousarray(axes[:, order].T, dtype=np.float32)
