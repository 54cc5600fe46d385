"""Simulate on a CPU how an accelerator runs an FP16 engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..onnx.external_data import EXTERNAL_DATA_LIMIT, save_engine

_MAKE_FP16 = frozenset(("Cast", "Constant", "ConstantOfShape"))
"""Operators whose FP16 output does not depend on the type of their inputs."""


def with_rounding(engine: Path, path: Path, *, limit: int = EXTERNAL_DATA_LIMIT) -> Path:
    """Write an FP16 engine as an FP32 engine that rounds each FP16 value to FP16.

    ONNX Runtime has few FP16 kernels for CPUs. It computes in FP32 and removes the casts to FP16
    and back that it inserts between two operators, so that neither rounding nor overflow shows.
    Casts that are written in the graph stay. Sums inside one operator are FP32, as on tensor cores.

    Args:
        engine: an FP16 engine.
        path: the file to write.
        limit: see `save_engine`.

    Returns:
        `path`.
    """
    model = ir.load(engine)
    for weight in model.graph.initializers.values():
        if weight.const_value is not None and weight.const_value.dtype == ir.DataType.FLOAT16:
            weight.const_value = ir.tensor(weight.const_value.numpy().astype(np.float32))
            weight.dtype = ir.DataType.FLOAT
    for node in list(model.graph):
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT16:
                _round(model, node, value)
    return save_engine(model, path, limit=limit)


def _round(model: ir.Model, node: ir.Node, value: ir.Value) -> None:
    uses, steps = list(value.uses()), [ir.DataType.FLOAT16, ir.DataType.FLOAT]
    if node.op_type in _MAKE_FP16:
        del steps[0]
    else:
        value.dtype = ir.DataType.FLOAT
    last, casts = value, []
    for dtype in steps:
        cast = ir.node("Cast", [last], {"to": dtype.value}, name=f"{value.name}_to_{dtype.name}")
        (last,) = cast.outputs
        last.name, last.dtype, last.shape = cast.name, dtype, value.shape
        casts.append(cast)
    model.graph.insert_after(node, casts)
    for use in uses:
        use.node.replace_input_with(use.idx, last)
