"""ONNX files larger than 2 GB: the tensors lie in a second file beside the graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

EXTERNAL_DATA_LIMIT = 1_900_000_000
"""Size in bytes from which tensors go into a file of their own; protobuf holds 2 GiB at most."""


def data_file(engine: Path) -> Path:
    """Return the path of the file that holds the tensors of `engine`, if they are not in it."""
    return engine.with_name(f"{engine.name}.data")


def save_engine(
    model: ir.Model | onnx.ModelProto, path: Path, *, limit: int = EXTERNAL_DATA_LIMIT
) -> Path:
    """Write a model; tensors of more than `limit` bytes in total go into `model.onnx.data`.

    Nodes without a name get one. Types and shapes of initialisers are left out of the file, because
    ONNX Runtime's converters change an initialiser and keep its old type. Activations keep theirs.

    Args:
        model: the model; its tensors may lie in files.
        path: the ONNX file to write; missing folders are created. The graph refers to its data file
            by name, so an engine with a data file must never be renamed.
        limit: bytes of tensors that the ONNX file itself may hold.

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
    """Return whether `engine` has a data file."""
    return data_file(engine).is_file()


def engine_bytes(engine: Path) -> int:
    """Return the size of an engine on disk in bytes, its data file included."""
    return sum(f.stat().st_size for f in (engine, data_file(engine)) if f.is_file())
