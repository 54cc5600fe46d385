"""Counts the cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota_file: Path = _QUOTA) -> int:
    """Count the cores that the affinity mask and the container's quota leave, at least 1.

    ONNX Runtime counts the cores of the machine: in a container that is limited to 4 of 64 cores,
    its 64 threads would spend the quota on waiting for each other.

    Args:
        quota_file: `cpu.max` of control groups, version 2: a quota in microseconds, or "max",
            and its period.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no control groups here, or no quota
        pass
    return max(cores, 1)
