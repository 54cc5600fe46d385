"""The check that a target has every operator of a graph, before anything is published."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import onnxruntime
from vireo_client.errors import ExportError, first_line
from vireo_serving.targets import Target

_STANDARD = ("", "ai.onnx")
# ONNX Runtime's messages: "... Op with name (n) ... Foo(1)", "Could not find an implementation for
# Foo(1) node with name 'n'", "Foo(-1) is not a registered function/op".
_OPERATOR = re.compile(r"([\w.:]+)\(-?\d+\) (?:node with name|is not a registered)")


def check_operators(engine: Path, model: str, target: Target) -> None:
    """Check that `target` has every operator of an engine.

    Raises:
        ExportError: it lacks one, which the message names with its node; or the graph does not
            load at all.
    """
    nodes = onnx.load(engine, load_external_data=False).graph.node
    if not target.custom_operators:
        for node in nodes:
            if node.domain not in _STANDARD:
                raise _missing(model, target, node)
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(engine, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no public base
        match = _OPERATOR.search(str(error))
        kind = re.split(r"[.:]", match[1])[-1] if match else None
        for node in nodes:
            if node.op_type == kind:
                raise _missing(model, target, node) from error
        reason = first_line(error)
        raise ExportError(f"{model}: does not load in ONNX Runtime ({reason})") from error


def _missing(model: str, target: Target, node: onnx.NodeProto) -> ExportError:
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return ExportError(
        f"{model}: target {target.name} has no operator {operator} (node {node.name!r}); "
        "change the tower, or choose another target"
    )
