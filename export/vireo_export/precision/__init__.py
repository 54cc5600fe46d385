"""Engines in FP32, FP16 and INT8, each made from the FP32 one (docs/precision.md)."""

from __future__ import annotations

from .choice import ALL_FP32, PRECISIONS, Precision, Precisions
from .external_data import engine_bytes

__all__ = ["ALL_FP32", "PRECISIONS", "Precision", "Precisions", "engine_bytes"]
