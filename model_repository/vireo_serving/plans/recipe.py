"""Recipes of plans: a dry run writes them, and the manifest of the built plan repeats them."""

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
    """Everything that a machine with a GPU needs to build a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    onnx: str
    """The graph's path from the plan's folder."""
    onnx_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    precision: str
    """Precision of the graph, such as `fp16`; the plan has the graph's types."""
    profiles: tuple[Profile, ...] = Field(min_length=1)
    options: BuildOptions = BuildOptions()


def make_recipe(
    onnx: Path,
    plan: Path,
    profiles: Sequence[Profile],
    options: BuildOptions | None = None,
    precision: str = "fp16",
) -> Recipe:
    """Return the recipe to build `plan` from `onnx`.

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
    """Hash a graph and, where its weights lie beside it (`model.onnx.data`), these too."""
    files = [onnx, *sorted(onnx.parent.glob(f"{onnx.name}?data"))]
    if len(files) == 1:
        return file_sha256(onnx)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
