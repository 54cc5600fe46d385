"""Convert engines to FP16: a strongly typed graph of mixed precision that any runtime accepts.

ONNX Runtime's own converter (`onnxruntime.transformers.float16`) converts the graph. This module
decides which operators stay in FP32 and replaces infinite masks.
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
"""Factor by which activations may exceed the measured ones without overflow."""
MASKED = -1e4
"""Value that replaces an infinity in masks. A softmax still gives exactly 0 there, and the sum of
two masks is still finite in FP16."""

FP32_OPERATORS = (
    *DEFAULT_OP_BLOCK_LIST,
    # They compute means and variances over hundreds of values.
    *("LayerNormalization", "SkipLayerNormalization", "GroupNorm", "GroupNormalization"),
    *("InstanceNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
    # Their partial sums may be large even if the result is small.
    *("ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"),
    *("GlobalAveragePool", "AveragePool", "CumSum", "ReduceProd"),
    # Exponentials, squares and their inverses soon leave the range of FP16.
    *("Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Sqrt", "Reciprocal"),
)
"""Operators that always stay in FP32."""

# The first operators with weights. The nodes before them (pixel normalisation, arithmetic on masks
# and positions) stay exact in FP32 at no cost.
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
    """Convert an FP32 engine to FP16; its inputs and outputs keep their types.

    Args:
        engine: an FP32 ONNX file that holds the types of all its tensors (see `optimise`).
        path: the file to write.
        largest: the largest absolute value of each activation on the calibration set.
        limit: see `save_engine`.

    Returns:
        `path`.
    """
    model = onnx.load(engine)
    make_masks_finite(model)
    blocked = nodes_in_fp32(model, largest)
    _split_shared_initialisers(model, blocked)
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
    """Replace every constant at or below FP16's range by `MASKED`.

    Bounds of clamps are not masks and stay as they are.
    """
    bounds = {name for n in model.graph.node if n.op_type in _CLAMPS for name in n.input}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.name not in bounds:
            values = numpy_helper.to_array(tensor)
            if (values <= -FP16_MAX).any():
                finite = np.where(values <= -FP16_MAX, np.float32(MASKED), values)
                tensor.CopyFrom(numpy_helper.from_array(finite, tensor.name))


def nodes_in_fp32(model: onnx.ModelProto, largest: Mapping[str, float]) -> set[str]:
    """Return the names of the nodes that their place or their values keep in FP32."""
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
    """Return the names of the nodes from a vector's length (or deviation) to the division by it."""
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
    """Return the names of the nodes whose inputs, outputs or sums FP16 cannot hold."""
    widths = {
        value.name: value.type.tensor_type.shape.dim[-1].dim_value
        for value in model.graph.value_info
        if value.type.tensor_type.shape.dim
    }
    weight_max = {name: float(np.abs(w).max()) for name, w in weights.items() if w.size}
    names = set()
    for node in model.graph.node:
        # Weights are known; activations may be larger than the measured ones.
        values = [HEADROOM * largest.get(name, 0.0) for name in (*node.input, *node.output)]
        values += [weight_max.get(name, 0.0) for name in node.input]
        if node.op_type == "MultiHeadAttention":
            values.append(HEADROOM * _largest_score(node, largest, widths))
        if not all(value <= FP16_MAX for value in values):  # NaN stays in FP32 as well
            names.add(node.name)
    return names


def _largest_score(
    node: onnx.NodeProto, largest: Mapping[str, float], widths: Mapping[str, int]
) -> float:
    """Return a bound on the scaled products of queries and keys inside a fused attention."""
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    query, key = (largest.get(name, 0.0) for name in node.input[:2])
    head = widths.get(node.input[0], 0) / settings["num_heads"]
    scale = settings.get("scale") or (head**-0.5 if head else 1.0)
    return float(query * key * max(head, 1.0) * scale)


def _split_shared_initialisers(model: onnx.ModelProto, blocked: set[str]) -> None:
    """Copy constants that nodes in FP32 share with nodes in FP16.

    The converter would round a shared constant for both, for example an epsilon of 1e-12 to the
    smallest FP16 value.
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
    """Keep the first of several casts with the same output.

    The converter writes a cast for each FP32 node that reads the value, all with the same output.
    """
    seen: set[str] = set()
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Cast" or node.output[0] not in seen:
            nodes.append(node)
            seen.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _join_fp32(model: ir.Model) -> None:
    """Remove casts from FP32 to FP16 and back between two nodes in FP32.

    The converter inserts them, and a value beyond FP16's range would become infinite.
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
            continue  # the value was cast from ids or a mask
        name = node.outputs[0].name
        is_output = node.outputs[0].is_graph_output()
        ir.convenience.replace_all_uses_with(node.outputs[0], source, replace_graph_outputs=True)
        if is_output:
            node.outputs[0].name, source.name = None, name
