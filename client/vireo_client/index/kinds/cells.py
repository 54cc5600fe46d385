"""Kinds that look into a few of the cells of a k-means partition (Sivic and Zisserman, 2003)."""

from __future__ import annotations

import math
from typing import Any

from .kind import Kind
from .library import faiss

_METRIC = faiss.METRIC_INNER_PRODUCT
_BLOCK = 32
"""Codes that FastScan compares at once, the size of a block in its lists."""
_POINTS_A_CELL = 64
"""Training vectors a cell; FAISS recommends 39 to 256."""


def cells_for(rows: int) -> int:
    """Return the number of cells for `rows` vectors: a power of two near 2 sqrt(rows), to 4096."""
    wanted = 2 * math.sqrt(max(rows, 1))
    return 1 << min(max(round(math.log2(wanted)), 2), 12)


def _clustering(index: Any, seed: int) -> Any:
    index.cp.niter = 10
    index.cp.seed = seed
    index.cp.max_points_per_centroid = _POINTS_A_CELL
    index.cp.min_points_per_centroid = 1  # silences a warning; too few rows fall to flat
    # Centroids of unit vectors are compared by inner product; without this, long ones would win.
    index.cp.spherical = True
    return index


def _training_rows(index: Any) -> int:
    return max(_POINTS_A_CELL * _inner(index).nlist, 16_384)


def _inner(index: Any) -> Any:
    """Return the cells behind a rotation, if there is one."""
    return (
        faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    )


def _make_ivf(dim: int, rows: int, seed: int) -> Any:
    coarse = faiss.IndexFlatIP(dim)
    # By residual, a byte a number spans the cell only, so that it rounds less.
    index = faiss.IndexIVFScalarQuantizer(
        coarse, dim, cells_for(rows), faiss.ScalarQuantizer.QT_8bit, _METRIC, True
    )
    return _owning(index, coarse, seed)


def _make_rabitq(dim: int, rows: int, seed: int) -> Any:
    coarse = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFRaBitQFastScan(coarse, dim, cells_for(rows), _METRIC, _BLOCK, True, 1)
    return _owning(index, coarse, seed)


def _make_ivfpq(dim: int, rows: int, seed: int) -> Any:
    kept = _kept(dim)
    coarse = faiss.IndexFlatIP(kept)
    index = faiss.IndexIVFPQFastScan(coarse, kept, cells_for(rows), kept // 2, 4, _METRIC, _BLOCK)
    index.pq.cp.seed = seed
    index.pq.cp.niter = 10
    _owning(index, coarse, seed)
    if kept == dim:
        return index
    rotation = faiss.PCAMatrix(dim, kept, 0.0, True)
    whole = faiss.IndexPreTransform(rotation, index)
    index.this.disown()
    rotation.this.disown()
    whole.own_fields = True
    return whole


def _kept(dim: int) -> int:
    """Return how many main directions product quantisation keeps: half of them, from 64."""
    return dim if dim <= 64 else max(64, dim // 2 // 4 * 4)


def _owning(index: Any, coarse: Any, seed: int) -> Any:
    coarse.this.disown()
    index.own_fields = True
    return _clustering(index, seed)


def _limit(index: Any) -> int:
    return int(_inner(index).nlist)


def _parameters(index: Any, value: int, selector: Any) -> Any:
    return faiss.SearchParametersIVF(nprobe=value, sel=selector)


def _rabitq_parameters(index: Any, value: int, selector: Any) -> Any:
    return faiss.IVFRaBitQSearchParameters(nprobe=value, sel=selector, qb=8)


def _pq_parameters(index: Any, value: int, selector: Any) -> Any:
    cells = _parameters(index, value, selector)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=cells)
    return cells


IVF = Kind(
    "ivf",
    "k-means cells, a byte a number",
    make=_make_ivf,
    training_rows=_training_rows,
    least_rows=1000,
    knob="nprobe",
    knob_limit=_limit,
    parameters=_parameters,
    factors=(1, 2, 4),
    row_cost=0.1,
)
IVFPQ = Kind(
    "ivfpq",
    "k-means cells, two bits a number of the main half of the directions: small and fast",
    make=_make_ivfpq,
    training_rows=_training_rows,
    least_rows=1000,
    knob="nprobe",
    knob_limit=_limit,
    parameters=_pq_parameters,
    factors=(4, 8, 16, 32, 64),
    row_cost=0.02,
)
RABITQ = Kind(
    "rabitq",
    "k-means cells, a bit a number (RaBitQ): quick to build and small",
    make=_make_rabitq,
    training_rows=_training_rows,
    least_rows=1000,
    knob="nprobe",
    knob_limit=_limit,
    parameters=_rabitq_parameters,
    factors=(4, 8, 16, 32, 64),
    row_cost=0.04,
)
