"""Kinds that compare with every vector, each stored in fewer bytes."""

from __future__ import annotations

from typing import Any

from .kind import Kind
from .library import faiss
from .master import Floats


def _make(quantizer: int) -> Any:
    def make(sample: Floats, rows: int, seed: int) -> Any:
        index = faiss.IndexScalarQuantizer(sample.shape[1], quantizer, faiss.METRIC_INNER_PRODUCT)
        index.train(sample)
        return index

    return make


def _parameters(index: Any, value: int, selector: Any) -> Any:
    return faiss.SearchParameters(sel=selector)


FP16 = Kind(
    "fp16",
    "every vector, in half precision: half the memory of flat, nearly its recall",
    make=_make(faiss.ScalarQuantizer.QT_fp16),
    parameters=_parameters,
    factors=(1, 2, 4),
    row_cost=0.5,
)
SQ8 = Kind(
    "sq8",
    "every vector, a byte a number: a quarter of the memory of flat",
    make=_make(faiss.ScalarQuantizer.QT_8bit),
    parameters=_parameters,
    factors=(1, 2, 4, 8),
    row_cost=0.25,
)
