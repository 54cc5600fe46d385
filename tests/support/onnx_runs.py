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


def cosines(a: Any, b: Any) -> Any:
    """Return the cosines `[N]` between the rows of two sets of vectors `[N, D]`."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)


def worst_cosine(a: Any, b: Any) -> float:
    """Return the smallest cosine between the rows of two sets of vectors `[N, D]`."""
    return float(cosines(a, b).min())
