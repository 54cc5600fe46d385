"""Run engines in tests and compare their outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def run(path: Path, inputs: dict[str, Any]) -> Any:
    """Run an ONNX file on the CPU and return its only output."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def worst_cosine(a: Any, b: Any) -> float:
    """Return the smallest cosine between two sets of vectors `[N, D]`, row by row."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(((x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).min())
