"""Quantise towers for CPUs: several candidates, of which the parity gate chooses one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
from vireo_client.repository import TEXT_MODEL

from ..onnx.external_data import EXTERNAL_DATA_LIMIT, uses_external_data
from .calibration import BatchReader, Calibration
from .choice import Precision
from .fp16 import divisions_by_length
from .ladder import PRODUCTS, Candidate, Ladder, saturates
from .preparing import prepare
from .quietly import quietly

_CHAIN = ("Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat")
"""Operators between the convolutions of a plain CNN, which run in INT8 as well."""
_METHODS = {
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 128, "num_quantized_bins": 128}),
    "percentile": (CalibrationMethod.Percentile, {"num_bins": 2048, "percentile": 99.999}),
}


def candidates(
    model: str,
    engine: Path,
    folder: Path,
    calibration: Calibration,
    precision: Precision = "int8",
    *,
    limit: int = EXTERNAL_DATA_LIMIT,
) -> Iterator[list[Candidate]]:
    """Yield rounds of engines of one tower, from fast to safe; a caller stops when one passes.

    Args:
        model: the tower's model name.
        engine: the FP32 engine, optimised for ONNX Runtime.
        folder: the folder to write to; each engine gets a subfolder.
        calibration: real inputs, on which ranges are measured.
        precision: "int8", or for text towers "int4".
        limit: see `save_engine`.
    """
    if model == TEXT_MODEL:
        ladder = Ladder(engine, folder, calibration.batches.get(model, []), limit)
        tried = ladder.candidates() if precision == "int8" else ladder.of_four_bits()
        yield from ([candidate] for candidate in tried)
        return
    with tempfile.TemporaryDirectory(dir=engine.parent) as scratch:
        prepared = prepare(engine, Path(scratch), limit)
        batches = calibration.batches[model]
        ranges = {m: _ranges(prepared, batches, m, Path(scratch) / m) for m in _METHODS}
        for suffix, excluded in (
            ("", []),
            (", first and last layer in FP32", _ends(prepared)),
        ):
            yield [
                _static(prepared, folder, ranges[m], m, excluded, f"{m}{suffix}") for m in _METHODS
            ]


def _static(
    prepared: Path,
    folder: Path,
    ranges: Path,
    method: str,
    excluded: list[str],
    how: str,
) -> Candidate:
    path = folder / how.replace(", ", "-").replace(" ", "-") / prepared.name
    path.parent.mkdir(parents=True, exist_ok=True)
    model = onnx.load(prepared, load_external_data=False)
    # Dividing an embedding by its clamped length must stay exact.
    in_fp32 = [*excluded, *divisions_by_length(model), *_without_weights(model)]
    with quietly():
        quantize_static(
            prepared,
            path,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_operators(prepared),
            per_channel=True,
            reduce_range=saturates(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=in_fp32,
            use_external_data_format=uses_external_data(prepared),
            calibrate_method=_METHODS[method][0],
            calibration_cache_path=ranges,
            extra_options={
                "WeightSymmetric": True,
                # The operators after a transformer's products run in FP32. Quantising a product's
                # output would lose precision and add an operator.
                "OpTypesToExcludeOutputQuantization": ["MatMul"],
            },
        )
    return Candidate(how, path)


def _ranges(
    prepared: Path, batches: Sequence[dict[str, npt.NDArray[Any]]], method: str, scratch: Path
) -> Path:
    """Measure the ranges of activations by one method; write the file for `quantize_static`."""
    scratch.mkdir()
    kind, options = _METHODS[method]
    path = scratch / "ranges.json"
    with quietly():
        calibrator = create_calibrator(
            prepared,
            _operators(prepared),
            str(scratch / "augmented.onnx"),
            kind,
            use_external_data_format=uses_external_data(prepared),
            extra_options=options,
        )
        for batch in batches:  # one at a time: it keeps all activations of its input
            calibrator.collect_data(BatchReader([batch]))
        save_tensors_data(calibrator.compute_data(), path)
    return path


def _operators(engine: Path) -> list[str]:
    """Return the operators to quantise: products, and for a plain CNN those between them."""
    kinds = [node.op_type for node in onnx.load(engine, load_external_data=False).graph.node]
    transformer = {"MultiHeadAttention", "Softmax"} & set(kinds)
    # ConvNeXt has a layer norm for every other convolution; a CNN may have one in its head.
    plain = not transformer and 4 * kinds.count("LayerNormalization") < kinds.count("Conv")
    return [*PRODUCTS, *(_CHAIN if plain else ())]


def _without_weights(model: onnx.ModelProto) -> list[str]:
    """Return the names of products of two activations, as in an attention that was not fused.

    In QDQ format the quantizer quantises them even with its `MatMulConstBOnly`. ONNX Runtime then
    runs the softmax between them in INT8 too (`QLinearSoftmax`). Where an attention weight comes
    near the end of its measured range, or exceeds it, that kernel gives 0 in place of the largest
    value.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    return [n.name for n in model.graph.node if n.op_type == "MatMul" and n.input[1] not in weights]


def _ends(engine: Path) -> list[str]:
    nodes = onnx.load(engine, load_external_data=False).graph.node
    products = [node.name for node in nodes if node.op_type in PRODUCTS]
    return [*products[:1], *products[-1:]]
