"""Graph optimisation: one operator in place of the many that PyTorch's exporter writes.

The fusions are those of `onnxscript.rewriter.ort_fusions`, written for graphs of this exporter.
ONNX Runtime's own `onnxruntime.transformers.optimizer` looks for the patterns of the older one: in
the graphs of these towers it finds the GELUs and not one attention.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript.optimizer import optimize
from onnxscript.rewriter.ort_fusions import shape_optimization
from onnxscript.rewriter.ort_fusions.bias_gelu import fuse_bias_gelu
from onnxscript.rewriter.ort_fusions.erfgelu import fuse_erfgelu
from onnxscript.rewriter.ort_fusions.gelu import fuse_gelu
from onnxscript.rewriter.ort_fusions.mha import fuse_mha1, fuse_mha2
from onnxscript.rewriter.ort_fusions.mha_scale import fuse_mha_scale
from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa
from onnxscript.rewriter.ort_fusions.sdpa_via_mha import replace_sdpa_by_mha
from onnxscript.rewriter.ort_fusions.skip_normalization import fuse_skip_layer_normalization
from vireo_serving.targets import Cpu, Target

from .external_data import EXTERNAL_DATA_LIMIT, save_engine

FUSED_DOMAIN = "com.microsoft"
"""Domain of the operators that ONNX Runtime has beyond the standard."""

# In this order: a later fusion builds on an earlier one's result. Queries, keys and values stay
# three products before the attention: as one packed operator ("Attention") INT8 would lose the
# mask, which its quantised form cannot take, and FP32 ran no faster.
_FUSIONS: dict[str, Callable[[ir.Model], int]] = {
    "gelu": fuse_erfgelu,
    "skip_layer_normalization": fuse_skip_layer_normalization,
    "scaled_dot_product": lambda model: int(fuse_sdpa(model, apply_shape_inference=True)),
    "attention": lambda model: fuse_mha1(model) + fuse_mha2(model),
    "attention_scale": fuse_mha_scale,
    "tanh_gelu": fuse_gelu,
    "bias_gelu": fuse_bias_gelu,
    "attention_over_heads": replace_sdpa_by_mha,
}


def optimise(
    engine: Path, path: Path, target: Target = Cpu(), *, limit: int = EXTERNAL_DATA_LIMIT
) -> dict[str, int]:
    """Write an FP32 engine with constants folded, dead nodes and initialisers gone, types known.

    For targets that run ONNX Runtime, attention and GELU become one operator each. Where its GPU
    kernels may run them, a bias before the GELU and an addition before a layer norm become part of
    that operator. TensorRT gets standard operators only: it fuses by itself.

    Args:
        engine: an ONNX file.
        path: the file to write.
        target: the target that will run the engine.
        limit: see `save_engine`.

    Returns:
        How often each fusion was applied; empty where the target takes standard operators only.
    """
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    model = ir.load(engine)
    passes.ShapeInferencePass()(model)
    optimize(model)
    fused = {}
    if target.custom_operators:
        shape_optimization.rules.apply_to_model(model)
        optimize(model)
        wanted = [name for name in _FUSIONS if name not in target.unwanted_fusions]
        fused = {name: int(_FUSIONS[name](model)) for name in wanted}
        optimize(model)  # puts operators back in place of fusions that were half applied
        _type_fused(model)
    passes.DeduplicateInitializersPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.ShapeInferencePass()(model)
    passes.ClearMetadataAndDocStringPass()(model)
    save_engine(model, path, limit=limit)
    return fused


def _type_fused(model: ir.Model) -> None:
    """Set the type and shape of fused operators' outputs: for all, those of their first input."""
    for node in model.graph:
        if node.domain == FUSED_DOMAIN and node.inputs[0] is not None:
            for output in node.outputs:
                if not output.uses() and not output.is_graph_output():
                    output.name = ""  # an optional output that no node uses
                    continue
                output.type = output.type or node.inputs[0].type
                output.shape = output.shape or node.inputs[0].shape
