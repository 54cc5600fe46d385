"""Constants of a graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def add_initializer(model: ir.Model, name: str, values: npt.NDArray[np.generic]) -> ir.Value:
    """Add a constant to a graph, and return it for nodes to take."""
    tensor = ir.tensor(values, name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype))
    model.graph.register_initializer(value)
    return value
