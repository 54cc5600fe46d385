"""What the GPU can do at most: FP16 matrix throughput and memory bandwidth. Never run yet."""

from __future__ import annotations

from ..host.limits import Limits, shortest
from .runners import synchronised

_EDGE = 8192
_NUMBERS = 1 << 30
"""FP16 numbers that are copied: 2 GiB, more than any cache."""


def measure_gpu_limits(seconds: float = 2.0) -> Limits:
    """Measure the first GPU; `fp32` of the answer is FP16 with FP32 accumulation, `int8` too."""
    import torch

    a = torch.randn(_EDGE, _EDGE, device="cuda", dtype=torch.float16)
    source = torch.zeros(_NUMBERS, device="cuda", dtype=torch.float16)
    target = torch.empty_like(source)
    products = 2.0 * _EDGE**3 / shortest(synchronised(lambda: a @ a), seconds)
    copy = synchronised(lambda: target.copy_(source))
    copied = 2 * 2 * _NUMBERS / shortest(copy, seconds)
    return Limits(bytes_a_second=copied, fp32=products, int8=products)
