"""Kinds that look into a few of the cells of a k-means partition (Sivic and Zisserman, 2003)."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from ..threads import threads
from .kind import Kind
from .library import faiss
from .master import Floats
from .rotation import balanced_directions

_METRIC = faiss.METRIC_INNER_PRODUCT
_BLOCK = 32
"""Codes that FastScan compares at once, the size of a block in its lists."""
_POINTS_A_CELL = 40
"""Training vectors a cell; FAISS asks for 39 or more."""
_PER_QUERY = 11
"""FastScan's way of going query by query. Its own choice, to share each cell among the queries of a
batch, takes half the time for 128 queries, and 1.6 times as long for one (1,000,000 vectors)."""
_QUERY_BITS = 8
"""Bits of a query's number while RaBitQ compares it with codes."""


def cells_for(rows: int) -> int:
    """Return the number of cells for `rows` vectors: a power of two near 2 sqrt(rows), to 4096."""
    wanted = 2 * math.sqrt(max(rows, 1))
    return 1 << min(max(round(math.log2(wanted)), 2), 12)


def _sample_rows(rows: int) -> int:
    return max(_POINTS_A_CELL * cells_for(rows), 16_384)


def _make_ivf(sample: Floats, rows: int, seed: int) -> Any:
    dim = sample.shape[1]
    coarse = faiss.IndexFlatIP(dim)
    # By residual, a byte a number spans the cell only, so that it rounds less.
    index = faiss.IndexIVFScalarQuantizer(
        coarse, dim, cells_for(rows), faiss.ScalarQuantizer.QT_8bit, _METRIC, True
    )
    return _trained(index, coarse, sample, seed)


def _make_rabitq(sample: Floats, rows: int, seed: int) -> Any:
    dim = sample.shape[1]
    coarse = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFRaBitQFastScan(coarse, dim, cells_for(rows), _METRIC, _BLOCK, True, 1)
    return _trained(index, coarse, sample, seed)


def _make_ivfpq(sample: Floats, rows: int, seed: int) -> Any:
    directions = balanced_directions(sample)
    kept, dim = directions.shape
    rotation = faiss.LinearTransform(dim, kept, False)
    faiss.copy_array_to_vector(directions.ravel(), rotation.A)
    rotation.is_trained = True
    coarse = faiss.IndexFlatIP(kept)
    # Sixteen values for each pair of directions: the tables that FastScan holds in registers.
    index = faiss.IndexIVFPQFastScan(coarse, kept, cells_for(rows), kept // 2, 4, _METRIC, _BLOCK)
    index.pq.cp.seed = seed
    _trained(index, coarse, rotation.apply(sample), seed)
    whole = faiss.IndexPreTransform(rotation, index)
    index.this.disown()
    rotation.this.disown()
    whole.own_fields = True
    return whole


def _trained(index: Any, coarse: Any, sample: Floats, seed: int) -> Any:
    """Train an index that then owns its coarse quantizer."""
    coarse.this.disown()
    index.own_fields = True
    index.cp.niter = 10
    index.cp.seed = seed
    index.cp.max_points_per_centroid = _POINTS_A_CELL
    index.cp.min_points_per_centroid = 1  # silences a warning; too few rows fall to flat
    index.train_q1(len(sample), faiss.swig_ptr(sample), False, _METRIC)
    # The cells are there: what is left are hundreds of tiny k-means, in which threads of a busy
    # machine would mostly wait for each other.
    with threads(1):
        index.train(sample)
    return index


def _inner(index: Any) -> Any:
    """Return the cells themselves, behind a rotation or not."""
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.downcast_index(index.index)
    return index


def _cells(index: Any) -> int:
    return int(_inner(index).nlist)


def _one_by_one(index: Any) -> None:
    _inner(index).implem = _PER_QUERY


def _parameters(index: Any, value: int, selector: Any) -> Any:
    return faiss.SearchParametersIVF(nprobe=value, sel=selector)


def _rabitq_parameters(index: Any, value: int, selector: Any) -> Any:
    return faiss.IVFRaBitQSearchParameters(nprobe=value, sel=selector, qb=_QUERY_BITS)


def _pq_parameters(index: Any, value: int, selector: Any) -> Any:
    return faiss.SearchParametersPreTransform(index_params=_parameters(index, value, selector))


_kind = partial(Kind, sample_rows=_sample_rows, least_rows=1000, knob="nprobe", knob_limit=_cells)
_FOR_COARSE_CODES = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Factors of kinds whose codes say little of a vector."""

IVF = _kind(
    "ivf",
    "k-means cells, a byte a number",
    make=_make_ivf,
    parameters=_parameters,
    factors=(1, 2, 4),
    row_cost=0.12,
)
IVFPQ = _kind(
    "ivfpq",
    "k-means cells, two bits a number of the main half of the directions: small and fast",
    make=_make_ivfpq,
    parameters=_pq_parameters,
    factors=_FOR_COARSE_CODES,
    row_cost=0.05,
    for_few=_one_by_one,
)
RABITQ = _kind(
    "rabitq",
    "k-means cells, a bit a number (RaBitQ): quick to build and small",
    make=_make_rabitq,
    parameters=_rabitq_parameters,
    factors=_FOR_COARSE_CODES,
    row_cost=0.08,
    for_few=_one_by_one,
)
