"""What a plan is made from: written by a dry run, repeated in the manifest of the built plan."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from vireo_client.bundle import file_sha256
from vireo_client.errors import ExportError

from .options import BuildOptions
from .profiles import Profile


class Recipe(BaseModel):
    """All that a plan is made from: with it, a machine with a GPU can build."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    onnx: str
    """The graph's path from the plan's folder."""
    onnx_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    precision: str
    """What the graph computes in, such as `fp16`; the plan's types are the graph's."""
    profiles: tuple[Profile, ...] = Field(min_length=1)
    options: BuildOptions = BuildOptions()


def make_recipe(
    onnx: Path,
    plan: Path,
    profiles: Sequence[Profile],
    options: BuildOptions | None = None,
    precision: str = "fp16",
) -> Recipe:
    """Describes how `plan` is made from `onnx`.

    Raises:
        ExportError: there is no such graph.
    """
    if not onnx.is_file():
        raise ExportError(f"{onnx}: no such graph; `vireo export` writes it")
    return Recipe(
        onnx=Path(os.path.relpath(onnx, plan.parent)).as_posix(),
        onnx_sha256=graph_sha256(onnx),
        precision=precision,
        profiles=tuple(profiles),
        options=options or BuildOptions(),
    )


def graph_sha256(onnx: Path) -> str:
    """Hashes a graph and, where its weights lie beside it (`model.onnx.data`), these too."""
    files = [onnx, *sorted(onnx.parent.glob(f"{onnx.name}?data"))]
    if len(files) == 1:
        return file_sha256(onnx)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
