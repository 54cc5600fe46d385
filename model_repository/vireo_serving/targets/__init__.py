"""The targets: what can run the towers inside Triton. One module for each."""

from __future__ import annotations

from vireo_client.errors import ExportError

from .cpu import Cpu
from .onnxruntime import OnnxRuntime
from .target import Target
from .tensorrt import TensorRT

__all__ = ["TARGETS", "Cpu", "OnnxRuntime", "Target", "TensorRT", "get_target"]

TARGETS: dict[str, type[Target]] = {target.name: target for target in (Cpu, OnnxRuntime, TensorRT)}
"""All targets by name. The first is the default."""


def get_target(name: str) -> type[Target]:
    """Return the target of a name.

    Raises:
        ExportError: there is none.
    """
    try:
        return TARGETS[name]
    except KeyError:
        raise ExportError(f"no target {name!r}; there are {', '.join(TARGETS)}") from None
