"""The proximity graph (Malkov and Yashunin, 2018)."""

from __future__ import annotations

from typing import Any

from .kind import Kind
from .library import faiss
from .master import Floats

LINKS = 32
"""Links a vector has on the graph's lowest level, M of the paper; twice as many there."""
CONSTRUCTION = 200
"""Candidates kept while a vector is linked, efConstruction of the paper."""


def _make(sample: Floats, rows: int, seed: int) -> Any:
    # A byte a number: the walk reads one vector a step from anywhere in memory, so that its time is
    # that of memory; the exact comparison with the master makes up for the rounding.
    index = faiss.IndexHNSWSQ(
        sample.shape[1], faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = CONSTRUCTION
    index.hnsw.rng = faiss.RandomGenerator(seed)
    index.train(sample)
    return index


def _parameters(index: Any, value: int, selector: Any) -> Any:
    return faiss.SearchParametersHNSW(efSearch=value, sel=selector)


HNSW = Kind(
    "hnsw",
    "a proximity graph over bytes: fast, but slow to build and large",
    make=_make,
    least_rows=256,
    knob="ef",
    knob_least=16,
    knob_limit=lambda index: min(index.ntotal, 4096),
    parameters=_parameters,
    factors=(1, 2, 4),
    row_cost=1.0,
)
