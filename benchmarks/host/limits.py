"""What this machine can do at most: memory bandwidth and matrix throughput, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from vireo_client.cores import usable_cores

_EDGE = 1536
"""The edge of the matrices: large enough that reading them costs nothing beside the products."""
_VECTOR = 32_000_000
"""Numbers of the vectors that memory is read through: 128 MB, more than any cache."""


@dataclass(frozen=True)
class Limits:
    """The most that was measured, on all cores."""

    bytes_a_second: float
    """Reading memory."""
    fp32: float
    """Floating-point operations a second, a multiplication and an addition counted as two."""
    int8: float
    """The same of 8-bit integers."""

    def least_seconds(self, operations: float, weights: float, precision: str) -> float:
        """Return the least time of a run: its operations, or reading its weights once.

        This is the roofline model (Williams, Waterman and Patterson, 2009), without the traffic of
        activations, which caches may hold.

        Args:
            operations: of the whole batch.
            weights: the number of weights that are read.
            precision: `fp32` or `int8`.
        """
        throughput, size = (self.int8, 1) if precision == "int8" else (self.fp32, 4)
        return max(operations / throughput, weights * size / self.bytes_a_second)


def measure_limits(seconds: float = 1.0) -> Limits:
    """Measure this machine.

    Args:
        seconds: how long each of the measurements runs.
    """
    products = 2.0 * _EDGE**3
    return Limits(
        bytes_a_second=_memory(seconds),
        fp32=max(products / shortest(run, seconds) for run in _fp32_products()),
        int8=max(products / shortest(run, seconds) for run in _int8_products()),
    )


def shortest(run: Callable[[], object], seconds: float) -> float:
    """Return the shortest time of a call: what the machine can do when nothing disturbs it.

    Args:
        run: is called again and again, once before any call counts.
        seconds: how long.
    """
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best


def _memory(seconds: float) -> float:
    """Read two vectors on each core at once; a dot product does little else."""
    from threadpoolctl import threadpool_limits

    cores = usable_cores()
    part = _VECTOR // cores
    pairs = [(np.ones(part, np.float32), np.ones(part, np.float32)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool, threadpool_limits(1):
        best = shortest(lambda: [*pool.map(lambda pair: pair[0] @ pair[1], pairs)], seconds)
    return 2 * 4 * part * cores / best


def _fp32_products() -> list[Callable[[], object]]:
    """Return products of FP32 matrices: NumPy's BLAS, ONNX Runtime's kernels, PyTorch's."""
    a = np.random.default_rng(0).standard_normal((_EDGE, _EDGE), np.float32)
    runs: list[Callable[[], object]] = [lambda: a @ a, _onnx_product("MatMul", a, a)]
    try:
        import torch
    except ModuleNotFoundError:
        return runs  # the others are enough
    tensor = torch.from_numpy(a)
    return [*runs, lambda: tensor @ tensor]


def _int8_products() -> list[Callable[[], object]]:
    """Return products of 8-bit matrices: ONNX Runtime's kernels, and PyTorch's."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 255, (_EDGE, _EDGE)).astype(np.uint8)
    b = rng.integers(-127, 127, (_EDGE, _EDGE)).astype(np.int8)
    runs = [_onnx_product("MatMulInteger", a, b)]
    try:
        import torch
    except ModuleNotFoundError:
        return runs
    signed = torch.from_numpy(b)
    return [*runs, lambda: torch._int_mm(signed, signed)]


def _onnx_product(operator: str, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Callable[[], object]:
    """Return ONNX Runtime's product of a matrix and constant weights."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    result = onnx.TensorProto.INT32 if operator == "MatMulInteger" else onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("c", result, (len(a), b.shape[1]))],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"a": a})
