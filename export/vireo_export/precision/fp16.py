"""FP16: a mixed-precision graph, strongly typed, that any runtime takes as it is.

The conversion is ONNX Runtime's own (`onnxruntime.transformers.float16`); which operators it leaves
in FP32, and the masks, are decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import numpy_helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from ..onnx.external_data import EXTERNAL_DATA_LIMIT, save_engine

FP16_MAX = 65504.0
HEADROOM = 2.0
"""Activations may be this many times as large as those seen and still be held."""
MASKED = -1e4
"""What masks hold in place of an infinity: a softmax still gives exactly 0 there, and twice it, in
a sum of two masks, is still finite."""

FP32_OPERATORS = (
    *DEFAULT_OP_BLOCK_LIST,
    # Means and variances over hundreds of values.
    *("LayerNormalization", "SkipLayerNormalization", "GroupNorm", "GroupNormalization"),
    *("InstanceNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
    # Sums, whose partial sums may be large where the result is not.
    *("ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"),
    *("GlobalAveragePool", "AveragePool", "CumSum", "ReduceProd"),
    # Exponentials, squares and their inverses leave the range early.
    *("Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal"),
)
"""Operators that stay in FP32 wherever they stand."""

# Where a tower's own values begin: what comes before (pixel normalisation, mask and position
# arithmetic) is exact in FP32 and costs nothing.
_LEARNT = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose", "Gather", "LSTM", "GRU"))
_LENGTHS = frozenset(("ReduceL2", "ReduceL1", "ReduceSumSquare", "Sqrt"))
_CLAMPS = frozenset(("Clip", "Max", "Min"))


def to_fp16(
    engine: Path,
    path: Path,
    largest: Mapping[str, float],
    *,
    limit: int = EXTERNAL_DATA_LIMIT,
) -> Path:
    """Converts an FP32 engine to FP16; its inputs and outputs keep their types.

    Args:
        engine: an FP32 ONNX file with the types of all tensors in it (see `optimise`).
        path: the file to write.
        largest: the largest absolute value of each activation on the calibration set.
        limit: see `save_engine`.

    Returns:
        `path`.
    """
    model = onnx.load(engine)
    make_masks_finite(model)
    blocked = nodes_in_fp32(model, largest)
    _part_shared_initialisers(model, blocked)
    converted = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=FP32_OPERATORS,
        node_block_list=sorted(blocked),
    )
    _drop_repeated_casts(converted)
    tidy = ir.from_proto(converted)
    _join_fp32(tidy)
    tidy.graph.sort()
    passes.RemoveUnusedNodesPass()(tidy)
    return save_engine(tidy, path, limit=limit)


def make_masks_finite(model: onnx.ModelProto) -> None:
    """Puts `MASKED` in the place of every constant at or below FP16's range.

    Bounds of clamps are no masks and stay.
    """
    bounds = {name for n in model.graph.node if n.op_type in _CLAMPS for name in n.input}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in bounds:
            values = numpy_helper.to_array(tensor)
            if (values <= -FP16_MAX).any():
                finite = np.where(values <= -FP16_MAX, np.float32(MASKED), values)
                tensor.CopyFrom(numpy_helper.from_array(finite, tensor.name))


def nodes_in_fp32(model: onnx.ModelProto, largest: Mapping[str, float]) -> set[str]:
    """Names the nodes that stay in FP32 for where they stand or for what flows through them."""
    weights = {
        t.name: numpy_helper.to_array(t)
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT
    }
    return (
        _preparation(model, weights.keys())
        | divisions_by_length(model)
        | _overflowing(model, largest, weights)
    )


def _preparation(model: onnx.ModelProto, weights: object) -> set[str]:
    names, learnt = set(), set()
    for node in model.graph.node:  # in topological order
        begins = node.op_type in _LEARNT and any(name in weights for name in node.input)  # type: ignore[operator]
        if begins or any(name in learnt for name in node.input):
            learnt.update(node.output)
        else:
            names.add(node.name)
    return names


def divisions_by_length(model: onnx.ModelProto) -> set[str]:
    """Names the nodes from a length (or a standard deviation) to the division by it."""
    names, lengths = set(), set()
    for node in model.graph.node:
        divided = any(name in lengths for name in node.input)
        if divided or node.op_type in _LENGTHS:
            names.add(node.name)
            if not (divided and node.op_type in ("Div", "Mul")):
                lengths.update(node.output)
    return names


def _overflowing(
    model: onnx.ModelProto,
    largest: Mapping[str, float],
    weights: Mapping[str, npt.NDArray[np.float32]],
) -> set[str]:
    """Nodes that would take, give or sum up what FP16 cannot hold."""
    widths = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in model.graph.value_info
        if value.type.tensor_type.shape.dim
    }
    held = {name: float(np.abs(w).max()) for name, w in weights.items() if w.size}
    names = set()
    for node in model.graph.node:
        # A weight is what it is; activations may be larger than those seen.
        values = [HEADROOM * largest.get(name, 0.0) for name in (*node.input, *node.output)]
        values += [held.get(name, 0.0) for name in node.input]
        if node.op_type == "MultiHeadAttention":
            values.append(HEADROOM * _largest_score(node, largest, widths))
        if not all(value <= FP16_MAX for value in values):  # NaN stays in FP32 as well
            names.add(node.name)
    return names


def _largest_score(
    node: onnx.NodeProto, largest: Mapping[str, float], widths: Mapping[str, int]
) -> float:
    """Bounds what a fused attention holds inside: the products of queries and keys, scaled."""
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    query, key = (largest.get(name, 0.0) for name in node.input[:2])
    head = widths.get(node.input[0], 0) / settings["num_heads"]
    scale = settings.get("scale") or (head**-0.5 if head else 1.0)
    return float(query * key * max(head, 1.0) * scale)


def _part_shared_initialisers(model: onnx.ModelProto, blocked: set[str]) -> None:
    """Gives nodes in FP32 a copy of small constants that nodes in FP16 use as well.

    The converter would round them for both, an epsilon of 1e-12 to the smallest FP16.
    """
    tensors = {t.name: t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    in_fp32 = {n.name for n in model.graph.node if n.name in blocked or n.op_type in FP32_OPERATORS}
    in_fp16 = {name for n in model.graph.node if n.name not in in_fp32 for name in n.input}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if node.name in in_fp32 and name in in_fp16 and name in tensors:
                copy = f"{name}_fp32"
                if copy not in tensors:
                    tensors[copy] = model.graph.initializer.add()
                    tensors[copy].CopyFrom(tensors[name])
                    tensors[copy].name = copy
                node.input[i] = copy


def _drop_repeated_casts(model: onnx.ModelProto) -> None:
    """Keeps the first of casts with one output.

    The converter writes one for each node in FP32 that takes the value, all of one name.
    """
    seen: set[str] = set()
    kept = []
    for node in model.graph.node:
        if node.op_type != "Cast" or node.output[0] not in seen:
            kept.append(node)
            seen.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _join_fp32(model: ir.Model) -> None:
    """Takes out casts from FP32 to FP16 and back between two nodes in FP32.

    The converter puts them there; a value past FP16's range would not survive.
    """
    for node in list(model.graph):
        if node.op_type != "Cast" or node.attributes["to"].as_int() != ir.DataType.FLOAT:
            continue
        down = node.inputs[0].producer() if node.inputs[0] is not None else None
        if down is None or down.op_type != "Cast":
            continue
        source = down.inputs[0]
        if down.attributes["to"].as_int() != ir.DataType.FLOAT16 or source is None:
            continue
        if source.dtype not in (None, ir.DataType.FLOAT):
            continue  # it began as ids or a mask
        name = node.outputs[0].name
        given = node.outputs[0].is_graph_output()
        ir.convenience.replace_all_uses_with(node.outputs[0], source, replace_graph_outputs=True)
        if given:
            node.outputs[0].name, source.name = None, name
