"""What ONNX Runtime's quantizers want done to a graph first."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from onnxruntime.quantization import quant_pre_process

from ..onnx.external_data import save_engine, uses_external_data
from .quietly import quietly


def prepare(engine: Path, folder: Path, limit: int) -> Path:
    """Run ONNX Runtime's preparation, which folds constants, and batch norms into convolutions."""
    drafted, outside = folder / f"drafted-{engine.name}", uses_external_data(engine)
    with quietly():
        quant_pre_process(
            engine,
            drafted,
            skip_symbolic_shape=True,  # shapes are known, and it fails on newer operators
            save_as_external_data=outside,
            all_tensors_to_one_file=True,
            external_data_location=f"{drafted.name}.data" if outside else None,
        )
    return save_engine(ir.load(drafted), folder / engine.name, limit=limit)
