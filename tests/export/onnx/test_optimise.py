import numpy as np
import onnx
import onnxruntime
import pytest
from support.onnx_runs import run
from vireo_export.onnx.optimise import FUSED_DOMAIN, optimise
from vireo_serving.targets import TARGETS, OnnxRuntime, TensorRT

TRANSFORMERS = [
    ("phobert-dinov2", "text"),
    ("phobert-dinov2", "image"),
    ("mini-transformer", "text"),
]


@pytest.mark.parametrize(("preset", "tower"), TRANSFORMERS)
@pytest.mark.parametrize("target", ["cpu", "onnxruntime"])
def test_operators_that_the_target_runs_faster_as_one_are_fused(
    exported, tmp_path, preset, tower, target
):
    source, path = exported(preset, tower), tmp_path / "model.onnx"
    fused = optimise(source.path, path, TARGETS[target]())
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    layers = 2
    assert fused["attention"] + fused["attention_over_heads"] == layers
    assert kinds.count("MultiHeadAttention") == layers
    assert "Softmax" not in kinds
    assert "Erf" not in kinds
    if target == "cpu":
        assert kinds.count("Gelu") >= layers
        assert kinds.count("LayerNormalization") >= 2 * layers
        assert {"BiasGelu", "SkipLayerNormalization"}.isdisjoint(kinds)
    else:
        assert fused["bias_gelu"] == kinds.count("BiasGelu") == layers
        assert fused["skip_layer_normalization"] == kinds.count("SkipLayerNormalization") >= layers
    assert np.abs(run(path, source.inputs) - source.expected()).max() < 1e-4


@pytest.mark.parametrize(
    ("preset", "tower"),
    [*TRANSFORMERS, ("phobert-swin", "image"), ("mini-lstm", "text"), ("scenes", "image")],
)
@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
def test_the_graph_is_whole_typed_and_answers_alike(exported, tmp_path, preset, tower, target):
    source, path = exported(preset, tower), tmp_path / "model.onnx"
    optimise(source.path, path, TARGETS[target]())
    onnx.checker.check_model(str(path), full_check=True)
    graph = onnx.load(path).graph
    typed = {value.name for value in [*graph.value_info, *graph.output]}
    outputs = [name for node in graph.node for name in node.output if name]
    assert [name for name in outputs if name not in typed] == []
    used = {name for node in graph.node for name in node.input}
    assert [t.name for t in graph.initializer if t.name not in used] == []
    assert all(node.name for node in graph.node)
    assert np.abs(run(path, source.inputs) - source.expected()).max() < 1e-4
    shapes = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    ]
    assert shapes[0][0] == shapes[1][0] == "batch"


def test_tensorrt_gets_standard_operators_only(exported, tmp_path):
    source, path = exported("phobert-dinov2", "text"), tmp_path / "model.onnx"
    assert optimise(source.path, path, TensorRT()) == {}
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    optimise(source.path, path, OnnxRuntime())
    assert FUSED_DOMAIN in {node.domain for node in onnx.load(path).graph.node}


def test_unused_weights_and_nodes_are_dropped(tmp_path):
    """As an exporter might leave it: an initialiser and a node that lead nowhere."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    weights = {"used": (4, 3), "dead": (64, 64)}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "used"], ["y"]),
            helper.make_node("Exp", ["x"], ["nowhere"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "a.onnx")
    optimise(tmp_path / "a.onnx", tmp_path / "b.onnx")
    left = onnx.load(tmp_path / "b.onnx").graph
    assert [t.name for t in left.initializer] == ["used"]
    assert [n.op_type for n in left.node] == ["MatMul"]
    assert onnxruntime.InferenceSession(tmp_path / "b.onnx").run(None, {"x": np.ones((2, 4), "f")})
