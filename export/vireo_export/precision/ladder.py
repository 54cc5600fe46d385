"""The ways of quantising a text tower, from the fastest to the safest.

In INT8:

1. Dynamic: activations are quantised at run time, with one scale for all of an activation.
2. The same after `smoothing`, for encoders with outliers.
3. The same, with the products in FP32 that lose most.
4. Blockwise: weights and activations have a scale for each block of 32 values (`MatMulNBits`).

In each, embedding tables have a scale a row (`tables`).

In INT4, weights have a scale for each block of 32 values, then of 16. Embedding tables are in
4 bits too, by blocks, or at last in 8 bits.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from ..onnx.external_data import EXTERNAL_DATA_LIMIT, save_engine, uses_external_data
from .calibration import spread
from .preparing import prepare
from .products import activations_of, groups_of
from .quietly import quietly
from .smoothing import smooth
from .tables import quantise_tables

PRODUCTS = ("MatMul", "Gemm", "Conv", "LSTM")
IN_FP32 = (1 / 12, 1 / 4)
"""The shares of products that stay in FP32, one after the other."""
BLOCK = 32
_LOOKED_AT = 4
"""Calibration batches on which activations are looked at."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantised engine."""

    how: str
    """The quantisation method."""
    path: Path


class Ladder:
    """Makes the engines of one text tower, each when it is asked for.

    Args:
        engine: the FP32 engine, optimised for ONNX Runtime.
        folder: the folder to write to; each engine gets a subfolder.
        batches: real inputs, on which activations are measured.
        limit: see `save_engine`.
    """

    def __init__(
        self,
        engine: Path,
        folder: Path,
        batches: Sequence[dict[str, npt.NDArray[Any]]],
        limit: int = EXTERNAL_DATA_LIMIT,
    ) -> None:
        self._engine, self._folder, self._limit = engine, folder, limit
        # Batches come by length, so they are taken at even steps.
        self._batches = spread(batches, _LOOKED_AT)

    def candidates(self) -> Iterator[Candidate]:
        """Yield the engines in INT8, the fastest first."""
        with tempfile.TemporaryDirectory(dir=self._engine.parent) as scratch:
            plain = prepare(self._with_small_tables(Path(scratch)), Path(scratch), self._limit)
            yield self._dynamic(plain, "dynamic", "dynamic")
            smoothed, by_loss = self._smooth(plain, Path(scratch))
            if smoothed is not None:
                yield self._dynamic(smoothed, "smoothed", "dynamic, smoothed")
            for share in IN_FP32:
                count = round(share * len(by_loss))
                if count:
                    how = f"dynamic, {'smoothed, ' if smoothed else ''}{count} products in FP32"
                    name = f"{count}-in-fp32"
                    yield self._dynamic(smoothed or plain, name, how, by_loss[:count])
            yield self._blockwise(plain)

    def _smooth(self, plain: Path, scratch: Path) -> tuple[Path | None, list[str]]:
        """Smooth a graph; return it, and the names of its products, the one that loses most first.

        None in place of the graph says that nothing was worth smoothing.
        """
        model = ir.load(plain)
        groups = groups_of(model)
        if not groups or not self._batches:
            return None, []
        activations = activations_of(plain, groups, self._batches)
        smoothed = smooth(model, groups, activations)
        products = [product for group in groups for product in group.products]
        lost = np.array([loss for _, losses in smoothed for loss in losses])
        names = [products[place].name or "" for place in np.argsort(-lost, kind="stable")]
        if not any(changed for changed, _ in smoothed):
            return None, names
        passes.RemoveUnusedNodesPass()(model)  # the weights as they were
        path = scratch / "smoothed" / self._engine.name
        return save_engine(model, path, limit=self._limit), names

    def _dynamic(
        self, prepared: Path, name: str, how: str, in_fp32: Sequence[str] = ()
    ) -> Candidate:
        """Quantise weights per output channel; activations are quantised per tensor at run time."""
        path = self._path(name)
        with quietly():
            quantize_dynamic(
                prepared,
                path,
                op_types_to_quantize=[*PRODUCTS],
                per_channel=True,
                reduce_range=saturates(),
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(in_fp32),
                use_external_data_format=uses_external_data(prepared),
                extra_options={"MatMulConstBOnly": True, "WeightSymmetric": True},
            )
        return Candidate(how, path)

    def of_four_bits(self) -> Iterator[Candidate]:
        """Yield the engines in INT4, the smallest first."""
        for block in (BLOCK, BLOCK // 2):
            yield self._blockwise(self._engine, bits=4, block=block, tables=True)
        with tempfile.TemporaryDirectory(dir=self._engine.parent) as scratch:
            small = self._with_small_tables(Path(scratch))
            yield self._blockwise(small, bits=4, block=BLOCK // 2)

    def _with_small_tables(self, scratch: Path) -> Path:
        model = ir.load(self._engine)
        quantise_tables(model)
        return save_engine(model, scratch / "tables" / self._engine.name, limit=self._limit)

    def _blockwise(
        self, prepared: Path, *, bits: int = 8, block: int = BLOCK, tables: bool = False
    ) -> Candidate:
        """Quantise weights and, at run time, activations block by block; with `tables`, tables."""
        axes = {"MatMul": 0, "Gather": 1} if tables else {"MatMul": 0}
        with quietly():
            quantizer = MatMulNBitsQuantizer(
                onnx.load(prepared),
                bits=bits,
                block_size=block,
                is_symmetric=True,
                accuracy_level=4,  # products in INT8
                op_types_to_quantize=tuple(axes),
                quant_axes=tuple(axes.items()),
            )
            quantizer.process()
        path = self._path(f"blockwise-{bits}-{block}{'-tables' if tables else ''}")
        save_engine(quantizer.model.model, path, limit=self._limit)
        how = f"blockwise, blocks of {block}"
        if bits == 4:
            how = f"4 bits, blocks of {block}, tables in {4 if tables else 8} bits"
        return Candidate(how, path)

    def _path(self, name: str) -> Path:
        path = self._folder / name / self._engine.name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def saturates() -> bool:
    """Return whether this processor adds INT8 products in 16 bits, which saturate.

    Weights may then have 7 bits only. x86 processors without VNNI do so (`reduce_range` in ONNX
    Runtime's guide to quantization).
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return True
    return not any(name in flags for name in ("avx512_vnni", "avx_vnni", "amx_int8"))
