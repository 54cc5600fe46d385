import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from support.onnx_runs import run, worst_cosine
from vireo_export.onnx.optimise import optimise
from vireo_export.precision.calibration import largest_values
from vireo_export.precision.fp16 import FP16_MAX, MASKED, make_masks_finite, to_fp16
from vireo_export.precision.rounding import with_rounding
from vireo_serving.targets import TARGETS, TensorRT

FLOAT, FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def convert(path, folder, inputs):
    largest = largest_values(path, [inputs])
    return to_fp16(path, folder / "fp16" / "model.onnx", largest)


def input_types(path):
    """Return the element types of float inputs, by operator."""
    graph = onnx.load(path).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    types |= {t.name: t.data_type for t in graph.initializer}
    types_of = {}
    for node in graph.node:
        input_types_of_node = {types[n] for n in node.input if types.get(n) in (FLOAT, FLOAT16)}
        types_of.setdefault(node.op_type, set()).update(input_types_of_node)
    return types_of


def graph_file(path, nodes, weights, width, out=None):
    """Write a model from `x` FP32 `[batch, width]` to `y`; return its optimised file."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", out or width])],
        [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    optimise(path, path.with_name("optimised.onnx"), TensorRT())
    return path.with_name("optimised.onnx")


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize(
    ("preset", "tower"),
    [("phobert-dinov2", "text"), ("phobert-dinov2", "image"), ("mini-transformer", "text"),
     ("mini-lstm", "text"), ("phobert-convnextv2", "image"), ("scenes", "image")],
)  # fmt: skip
def test_an_fp16_engine_matches_pytorch(exported, tmp_path, preset, tower, target):
    source = exported(preset, tower)
    optimise(source.path, tmp_path / "model.onnx", TARGETS[target]())
    path = convert(tmp_path / "model.onnx", tmp_path, source.inputs)
    onnx.checker.check_model(str(path), full_check=True)
    answered = run(with_rounding(path, tmp_path / "rounding.onnx"), source.inputs)
    assert np.abs(answered - run(path, source.inputs)).max() < 1e-2
    assert answered.dtype == np.float32
    assert worst_cosine(answered, source.expected()) >= 0.999
    assert np.allclose(np.linalg.norm(answered, axis=1), 1, atol=1e-5)  # normalisation stays FP32
    before, after = (onnx.load(p).graph for p in (source.path, path))
    for a, b in zip((*before.input, *before.output), (*after.input, *after.output), strict=True):
        assert (a.name, a.type.tensor_type.elem_type) == (b.name, b.type.tensor_type.elem_type)


def test_products_are_fp16_and_sensitive_operators_fp32(exported, tmp_path):
    for tower in ("text", "image"):
        source = exported("phobert-dinov2", tower)
        optimise(source.path, tmp_path / "model.onnx", TensorRT())
        types = input_types(convert(tmp_path / "model.onnx", tmp_path, source.inputs))
        assert types["MatMul"] == {FLOAT16}
        for kind in ("LayerNormalization", "Softmax", "ReduceL2", "Clip"):
            assert types[kind] == {FLOAT}, kind
    assert types["Conv"] == {FLOAT16}
    assert types["Sub"] == {FLOAT}  # pixel normalisation


def test_the_weights_take_half_the_bytes(exported, tmp_path):
    source = exported("scenes", "image")
    optimise(source.path, tmp_path / "model.onnx")
    path = convert(tmp_path / "model.onnx", tmp_path, source.inputs)
    sizes = [
        sum(numpy_helper.to_array(t).nbytes for t in onnx.load(p).graph.initializer)
        for p in (path, source.path)
    ]
    assert sizes[0] <= 0.52 * sizes[1]


def test_activations_twice_as_large_do_not_overflow(tmp_path):
    """FP16 can hold this product for the calibration set, but not for inputs twice as large."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 16)).astype(np.float32)
    weight = rng.normal(size=(16, 16)).astype(np.float32)
    weight *= 50_000 / np.abs(x @ weight).max()
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["large"], name="large"),
        helper.make_node("Mul", ["large", "less"], ["small"], name="less"),
        helper.make_node("MatMul", ["small", "v"], ["y"], name="small"),
    ]
    weights = {"w": weight, "less": 1e-4, "v": rng.normal(size=(16, 16))}
    path = graph_file(tmp_path / "model.onnx", nodes, weights, 16)
    engine = convert(path, tmp_path, {"x": x})
    answered = run(with_rounding(engine, tmp_path / "rounding.onnx"), {"x": 2 * x})
    assert np.isfinite(answered).all()
    assert worst_cosine(answered, run(path, {"x": 2 * x})) > 0.9999
    # The measured range decides: with smaller measured activations the same graph overflows.
    smaller = dict.fromkeys(largest_values(path, [{"x": x}]), 1.0)
    naive = to_fp16(path, tmp_path / "naive" / "model.onnx", smaller)
    rounding = with_rounding(naive, tmp_path / "naive" / "rounding.onnx")
    assert not np.isfinite(run(rounding, {"x": 2 * x})).all()


def test_large_values_between_fp32_nodes_survive(tmp_path):
    """A residual stream exceeds FP16's range between additions and a layer norm."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "huge"], ["b"]),
        helper.make_node("Add", ["b", "a"], ["c"]),
        helper.make_node("LayerNormalization", ["c", "scale"], ["y"], axis=-1),
    ]
    weights = {"w": rng.normal(size=(16, 16)), "huge": 1e5, "scale": np.ones(16)}
    path = graph_file(tmp_path / "model.onnx", nodes, weights, 16)
    x = rng.normal(size=(8, 16)).astype(np.float32)
    engine = with_rounding(convert(path, tmp_path, {"x": x}), tmp_path / "rounding.onnx")
    assert worst_cosine(run(engine, {"x": x}), run(path, {"x": x})) > 0.9999


_LEAST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(  # 0 times infinity is NaN in FP32 too
    ("infinity", "how"),
    [(-np.inf, "Add"), (_LEAST, "Add"), (-1e30, "Add"), (_LEAST, "Mul"), (-1e30, "Mul")],
)
def test_masks_become_finite_and_still_hide_exactly(tmp_path, infinity, how):
    """Row 1 sees only the first two positions and row 2 none: no NaN, and hidden weights are 0."""
    mask = np.zeros((3, 4), np.float32)
    mask[1, 2:], mask[2] = infinity, infinity
    score = [helper.make_node("MatMul", ["x", "w"], ["score"])]
    if how == "Add":
        nodes = [*score, helper.make_node("Add", ["score", "mask"], ["masked"])]
        weights = {"mask": mask}
    else:
        nodes = [
            helper.make_node("Mul", ["hidden", "infinity"], ["mask"]), *score,
            helper.make_node("Add", ["score", "mask"], ["masked"]),
        ]  # fmt: skip
        weights = {"hidden": (mask < 0).astype(np.float32), "infinity": infinity}
    nodes.append(helper.make_node("Softmax", ["masked"], ["p"], axis=-1))
    nodes.append(helper.make_node("MatMul", ["p", "v"], ["y"]))
    rng = np.random.default_rng(0)
    weights |= {"w": rng.normal(size=(4, 4)), "v": np.eye(4)}
    path = graph_file(tmp_path / "model.onnx", nodes, weights, 4)
    x = rng.normal(size=(3, 4)).astype(np.float32)
    engine = with_rounding(convert(path, tmp_path, {"x": x}), tmp_path / "rounding.onnx")
    attention = run(engine, {"x": x})
    assert np.isfinite(attention).all()
    assert (attention[1, 2:] == 0).all()
    assert np.allclose(attention[:2], run(path, {"x": x})[:2], atol=1e-3)
    assert np.allclose(attention.sum(1), 1, atol=2e-3)


def test_bounds_of_clamps_are_not_masks():
    tensors = {"low": -1e30, "high": 1e30, "mask": -1e30}
    graph = helper.make_graph(
        [helper.make_node("Clip", ["x", "low", "high"], ["a"]),
         helper.make_node("Add", ["a", "mask"], ["y"])],
        "g", [], [],
        [numpy_helper.from_array(np.float32(value), name) for name, value in tensors.items()],
    )  # fmt: skip
    model = helper.make_model(graph)
    make_masks_finite(model)
    values = {t.name: float(numpy_helper.to_array(t)) for t in model.graph.initializer}
    assert values == {"low": np.float32(-1e30), "high": np.float32(1e30), "mask": MASKED}
    assert abs(MASKED) * 2 < FP16_MAX


def test_an_epsilon_that_both_precisions_use_is_not_rounded(tmp_path):
    """1e-12 in FP16 would be 6e-8 or 0, and a short vector would not get unit length."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "eps"], ["b"]),
        helper.make_node("ReduceL2", ["b", "axis"], ["norm"]),
        helper.make_node("Max", ["norm", "eps"], ["floor"]),
        helper.make_node("Div", ["b", "floor"], ["y"]),
    ]
    weights = {"w": 1e-6 * np.eye(4), "eps": 1e-12}
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 4])],
        [*(numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in weights.items()),
         numpy_helper.from_array(np.array([1]), "axis")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    optimise(tmp_path / "model.onnx", tmp_path / "optimised.onnx", TensorRT())
    x = np.ones((2, 4), np.float32)
    path = convert(tmp_path / "optimised.onnx", tmp_path, {"x": x})
    assert np.allclose(np.linalg.norm(run(path, {"x": x}), axis=1), 1, atol=1e-4)
    epsilons = {
        float(numpy_helper.to_array(t)) for t in onnx.load(path).graph.initializer
        if t.data_type == FLOAT and not t.dims
    }  # fmt: skip
    assert float(np.float32(1e-12)) in epsilons
