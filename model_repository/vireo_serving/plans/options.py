"""Options of a TensorRT build."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]


class BuildOptions(BaseModel):
    """Settings of the builder; the same for all plans of a repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workspace_bytes: int | None = Field(default=None, gt=0)
    """Most GPU memory that one layer's kernel may take as scratch space. None for TensorRT's own
    limit, all memory of the GPU. A tight limit forbids kernels and may cost speed."""
    optimization_level: int = Field(default=3, ge=0, le=5)
    """How long the builder searches: 0 takes the first kernel that works, 3 is TensorRT's own
    default, 5 compares all it has."""
    hardware_compatibility: HardwareCompatibility = "none"
    """Which other GPUs the plan runs on: none, those of the same compute capability, or all from
    Ampere (8.0) on. The wider, the slower."""
    version_compatible: bool = False
    """Whether later TensorRT versions load the plan. It then carries host code, and a server loads
    it only if started with the option to trust such code."""
