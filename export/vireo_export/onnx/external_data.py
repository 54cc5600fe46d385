"""ONNX files past 2 GB: what protobuf cannot hold lies in a second file beside the graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

EXTERNAL_DATA_LIMIT = 1_900_000_000
"""Tensors of more bytes than this go into a file of their own; a protobuf message holds 2 GiB."""


def data_file(engine: Path) -> Path:
    """Where the tensors of `engine` lie if they are not in it."""
    return engine.with_name(f"{engine.name}.data")


def save_engine(
    model: ir.Model | onnx.ModelProto, path: Path, *, limit: int = EXTERNAL_DATA_LIMIT
) -> Path:
    """Writes a model, with its tensors in `model.onnx.data` where they are more than `limit` bytes.

    Nodes get names. Types are written of activations alone: ONNX Runtime's converters keep what is
    said of an initialiser after they changed it.

    Args:
        model: what to write; its own tensors may lie in files.
        path: the ONNX file; its folder is made. The graph names its data file, so that an engine
            keeps its file name for life.
        limit: in bytes.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    model = ir.from_proto(model) if isinstance(model, onnx.ModelProto) else model
    size = 0
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        size += value.const_value.nbytes
        value.type = value.shape = None
    for number, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type}_{number}"
    ir.save(model, path, external_data=data_file(path).name if size > limit else None)
    return path


def uses_external_data(engine: Path) -> bool:
    """Whether `engine` has a data file."""
    return data_file(engine).is_file()


def engine_bytes(engine: Path) -> int:
    """The size of an engine on disk, its data file included."""
    return sum(f.stat().st_size for f in (engine, data_file(engine)) if f.is_file())
