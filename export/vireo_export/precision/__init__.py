"""Engines in FP32, FP16, INT8 and INT4; the others are made from FP32 (docs/precision.md)."""

from __future__ import annotations

from ..onnx.external_data import engine_bytes
from .choice import ALL_FP32, PRECISIONS, Precision, Precisions

__all__ = ["ALL_FP32", "PRECISIONS", "Precision", "Precisions", "engine_bytes"]
