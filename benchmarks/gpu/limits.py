"""What the GPU can do at most: FP16 matrix throughput and memory bandwidth. Never run yet."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..host.limits import Limits

_EDGE = 8192
_NUMBERS = 1 << 30
"""FP16 numbers that are copied: 2 GiB, more than any cache."""


def measure_gpu_limits(seconds: float = 2.0) -> Limits:
    """Measure the first GPU; `fp32` of the answer is FP16 with FP32 accumulation, `int8` too."""
    import torch

    a = torch.randn(_EDGE, _EDGE, device="cuda", dtype=torch.float16)
    source = torch.zeros(_NUMBERS, device="cuda", dtype=torch.float16)
    target = torch.empty_like(source)
    products = 2.0 * _EDGE**3 / _best(lambda: a @ a, seconds)
    copied = 2 * 2 * _NUMBERS / _best(lambda: target.copy_(source), seconds)
    return Limits(bytes_a_second=copied, fp32=products, int8=products)


def _best(run: Callable[[], object], seconds: float) -> float:
    import torch

    run()
    torch.cuda.synchronize()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
