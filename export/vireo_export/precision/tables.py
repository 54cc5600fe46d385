"""Store embedding tables in INT8, each row with a scale of its own.

ONNX Runtime's quantizer has one scale for a whole table: a few large rows, as those of rare pieces
and special tokens are, leave all others a few steps. The rows that a text needs are looked up first
and scaled afterwards, so that a table costs no time that grows with the vocabulary.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as passes

from ..onnx.initializers import add_initializer

LEAST_ROWS = 16
"""Smaller tables, as those of token types are, stay as they are."""


def quantise_tables(model: ir.Model) -> int:
    """Replace each FP32 table that a `Gather` looks rows up in, in place.

    Returns:
        The number of tables.
    """
    stored: dict[str, tuple[ir.Value, ir.Value]] = {}
    for node in list(model.graph):
        table = _table(node)
        if table is None:
            continue
        source = node.inputs[0]
        assert source is not None
        name = source.name or "table"
        if name not in stored:
            stored[name] = _store(model, name, table)
        _scale_rows(model, node, *stored[name])
    passes.RemoveUnusedNodesPass()(model)  # the FP32 tables
    return len(stored)


def _table(node: ir.Node) -> npt.NDArray[np.float32] | None:
    """Return the table `[rows, width]` of a node that looks up rows; None for any other node."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0:
        return None
    source = node.inputs[0]
    if source is None or source.const_value is None or source.is_graph_output():
        return None
    if source.const_value.dtype != ir.DataType.FLOAT or len(source.const_value.shape) != 2:
        return None
    if any(user.op_type != "Gather" for user, _ in source.uses()):
        return None
    table = source.const_value.numpy()
    return table if len(table) >= LEAST_ROWS else None


def _store(model: ir.Model, name: str, table: npt.NDArray[np.float32]) -> tuple[ir.Value, ir.Value]:
    largest = np.abs(table).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    rows = np.rint(table / scales).astype(np.int8)
    return (
        add_initializer(model, f"{name}_int8", rows),
        add_initializer(model, f"{name}_scales", scales),
    )


def _scale_rows(model: ir.Model, node: ir.Node, rows: ir.Value, scales: ir.Value) -> None:
    """Put "look up, make FP32, scale" in the place of "look up"."""
    output, ids = node.outputs[0], node.inputs[1]
    found = ir.node("Gather", [rows, ids], name=f"{node.name}_rows")
    of_rows = ir.node("Gather", [scales, ids], name=f"{node.name}_scales")
    as_float = ir.node(
        "Cast", [found.outputs[0]], {"to": ir.DataType.FLOAT}, name=f"{node.name}_fp32"
    )
    scaled = ir.node("Mul", [as_float.outputs[0], of_rows.outputs[0]], name=f"{node.name}_scaled")
    for made in (found, of_rows, as_float, scaled):
        made.outputs[0].name = f"{made.name}_out"
    new = scaled.outputs[0]
    new.type, new.shape = output.type, output.shape
    model.graph.insert_before(node, [found, of_rows, as_float, scaled])
    ir.convenience.replace_all_uses_with(output, new)
    model.graph.remove(node, safe=True)
