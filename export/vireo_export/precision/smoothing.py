"""Smoothing: move the outliers of activations into the weights behind them.

Real encoders have a few channels whose values are tens of times larger than the rest. One scale for
a whole activation then leaves the others a few steps. Dividing each channel by a scale of its own,
and multiplying that row of the weight, changes nothing in FP32 and evens the channels out (Xiao et
al., "SmoothQuant", ICML 2023, section 4). The scale of channel j is

    s_j = max|X_j| ** strength / max|W_j| ** (1 - strength)

The strength is chosen for each activation: the one with which its products lose least on the
calibration captions. Where a layer norm feeds nothing but these products, the division becomes part
of it. Elsewhere, as where a residual takes the same values, it is an operator, which takes about a
hundredth of the product's time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ..onnx.initializers import add_initializer
from .products import Floats, Group, loss, weight_of

STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
WORTH = 0.7
"""An activation is smoothed if that leaves at most this share of the loss."""


def smooth(
    model: ir.Model, groups: Sequence[Group], activations: Sequence[Sequence[Floats]]
) -> list[tuple[bool, list[float]]]:
    """Smooth the activations for which it is worth it, in place.

    Args:
        model: the FP32 graph.
        groups: its products.
        activations: what the products of each group get, see `activations_of`.

    Returns:
        For each group, whether it was smoothed, and the loss of each of its products afterwards
        (`products.loss`).
    """
    smoothed = []
    for group, values in zip(groups, activations, strict=True):
        scales, lost = _best_scales(values, group.weights())
        if scales is not None:
            _divide(model, group, scales)
        smoothed.append((scales is not None, lost))
    return smoothed


def _best_scales(
    values: Sequence[Floats], weights: Sequence[Floats]
) -> tuple[Floats | None, list[float]]:
    """Return the scales with which the products lose least, and what each of them loses then."""
    plain = [loss(values, weight) for weight in weights]
    best: tuple[Floats | None, list[float]] = None, plain
    for strength in STRENGTHS:
        scales = _scales(values, weights, strength)
        lost = [loss(values, weight, scales) for weight in weights]
        if sum(lost) < sum(best[1]):
            best = scales, lost
    return best if sum(best[1]) <= WORTH * sum(plain) else (None, plain)


def _scales(values: Sequence[Floats], weights: Sequence[Floats], strength: float) -> Floats:
    of_channels = np.max([np.abs(batch).max(axis=0) for batch in values], axis=0)
    of_rows = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    usable = (of_channels > 0) & (of_rows > 0)
    scales = np.ones_like(of_channels)
    scales[usable] = of_channels[usable] ** strength / of_rows[usable] ** (1 - strength)
    # Only ratios matter.
    return np.asarray(scales / np.exp(np.log(scales).mean()), dtype=np.float32)


def _divide(model: ir.Model, group: Group, scales: Floats) -> None:
    """Divide a group's activation by `scales`, and multiply the rows of its weights."""
    for product in group.products:
        weight = weight_of(product) * scales[:, None]
        product.replace_input_with(1, add_initializer(model, f"{product.name}_smoothed", weight))
    if _fold_into_norm(model, group, scales):
        return
    name = f"{group.activation.name}_smoothing"
    divisor = add_initializer(model, name, 1 / scales)
    node = ir.node("Mul", [group.activation, divisor], name=f"{name}_mul")
    smoothed = node.outputs[0]
    smoothed.name = f"{name}_out"
    smoothed.type, smoothed.shape = group.activation.type, group.activation.shape
    model.graph.insert_before(group.products[0], node)
    for product in group.products:
        product.replace_input_with(0, smoothed)


def _fold_into_norm(model: ir.Model, group: Group, scales: Floats) -> bool:
    """Divide scale and bias of the layer norm before a group, if nothing else takes its output."""
    norm = group.activation.producer()
    if norm is None or norm.op_type != "LayerNormalization" or group.activation.is_graph_output():
        return False
    if {id(user) for user, _ in group.activation.uses()} != {id(p) for p in group.products}:
        return False
    parameters = norm.inputs[1:]
    if any(p is None or p.const_value is None for p in parameters):
        return False
    for place, parameter in enumerate(parameters, start=1):
        assert parameter is not None
        assert parameter.const_value is not None
        name = f"{norm.name}_{place}_smoothed"
        values = parameter.const_value.numpy() / scales
        norm.replace_input_with(place, add_initializer(model, name, values))
    return True
