"""The products of a tower, and what INT8 costs each of them on real inputs.

A product is a `MatMul` of an activation with a weight. ONNX Runtime quantises the activation with
one scale for all of it, at run time, and the weight with one for each output channel. What that
loses is computed here in NumPy, product by product, without building an engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from vireo_client.towers.engine import open_session

from ..onnx.external_data import save_engine

Floats = npt.NDArray[np.float32]
_ROWS = 256
"""Rows of an activation that are looked at, in all batches together; more tell no more."""


@dataclass(frozen=True)
class Group:
    """The products that share one activation, as queries, keys and values do."""

    activation: ir.Value
    products: tuple[ir.Node, ...]

    def weights(self) -> list[Floats]:
        """Return the weights, FP32 `[D, K]` each."""
        return [weight_of(product) for product in self.products]


def groups_of(model: ir.Model) -> list[Group]:
    """Return the products of a graph by the activation they take, in the graph's order."""
    members: dict[int, tuple[ir.Value, list[ir.Node]]] = {}
    for node in model.graph:
        if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
            continue
        activation, weight = node.inputs
        if activation is None or weight is None or weight.const_value is None:
            continue
        if len(weight.const_value.shape) == 2:
            members.setdefault(id(activation), (activation, []))[1].append(node)
    return [Group(activation, tuple(nodes)) for activation, nodes in members.values()]


def weight_of(product: ir.Node) -> Floats:
    """Return the weight of a product, FP32 `[D, K]`."""
    weight = product.inputs[1]
    assert weight is not None
    assert weight.const_value is not None
    return np.asarray(weight.const_value.numpy(), dtype=np.float32)


def activations_of(
    engine: Path, groups: Sequence[Group], batches: Sequence[dict[str, npt.NDArray[Any]]]
) -> list[list[Floats]]:
    """Run a tower in FP32, and return what the products of each group get.

    Args:
        engine: the FP32 engine.
        groups: the groups of its graph.
        batches: real inputs.

    Returns:
        For each group, FP32 `[rows, D]` a batch.
    """
    model = ir.load(engine)
    values = {v.name: v for node in model.graph for v in node.outputs}
    names = [group.activation.name for group in groups]
    known = {output.name for output in model.graph.outputs}
    model.graph.outputs.extend(values[name] for name in dict.fromkeys(names) if name not in known)
    with tempfile.TemporaryDirectory(dir=engine.parent) as folder:
        session = open_session(save_engine(model, Path(folder) / engine.name), 0)
        found: list[list[Floats]] = [[] for _ in groups]
        for batch in batches:
            for rows, values_ in zip(found, session.run(names, batch), strict=True):
                rows.append(_some_rows(values_.reshape(-1, values_.shape[-1]), len(batches)))
    return found


def _some_rows(rows: Floats, batches: int) -> Floats:
    """Keep a batch's share of `_ROWS`, and the rows with its smallest and its largest value.

    These two determine the scale.
    """
    step = max(1, len(rows) * batches // _ROWS)
    extremes = [int(rows.min(axis=1).argmin()), int(rows.max(axis=1).argmax())]
    kept: Floats = rows[np.unique([*range(0, len(rows), step), *extremes])]
    return kept


def rounded_activation(values: Floats) -> Floats:
    """Round as `DynamicQuantizeLinear` does: UINT8, one scale, zero is exact."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = (high - low) / 255 or 1.0
    zero = np.rint(-low / scale)
    steps = np.clip(np.rint(values / scale) + zero, 0, 255) - zero
    return np.asarray(steps * scale, dtype=np.float32)


def rounded_weight(weight: Floats) -> Floats:
    """Round to INT8, symmetric, with a scale for each output channel."""
    scale = np.abs(weight).max(axis=0, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.asarray(np.rint(weight / scale) * scale, dtype=np.float32)


def loss(activations: Sequence[Floats], weight: Floats, scales: Floats | None = None) -> float:
    """Return the squared error of a product in INT8, relative to the product's own square.

    Args:
        activations: what it gets, a batch each: FP32 `[rows, D]`.
        weight: FP32 `[D, K]`.
        scales: FP32 `[D]`: the activation is divided by them, the weight multiplied.
    """
    error = square = 0.0
    quantised = rounded_weight(weight if scales is None else weight * scales[:, None])
    for values in activations:
        exact = values @ weight
        changed = values if scales is None else values / scales
        error += float(np.square(rounded_activation(changed) @ quantised - exact).sum())
        square += float(np.square(exact).sum())
    return error / square if square else 0.0
