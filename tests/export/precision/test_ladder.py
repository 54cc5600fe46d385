"""The ladder's parts against plain NumPy, on a graph with outliers as real encoders have them."""

import numpy as np
import onnx_ir as ir
import pytest
from vireo_client.towers.engine import open_session
from vireo_export.onnx.external_data import save_engine
from vireo_export.precision import products
from vireo_export.precision.ladder import Ladder, saturates
from vireo_export.precision.products import activations_of, groups_of, loss
from vireo_export.precision.smoothing import smooth
from vireo_export.precision.tables import quantise_tables

VOCABULARY, WIDTH = 2000, 32


def _value(name, array, model_values):
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    model_values.append(value)
    return value


@pytest.fixture
def tower(tmp_path):
    """ids -> table -> layer norm -> two products of which a residual takes the norm's output too.

    Channel 3 of the norm is fifty times as large as the others. Row 0 of the table is, too.
    """
    random = np.random.default_rng(0)
    table = random.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    table[0] *= 50
    gamma = np.ones(WIDTH, np.float32)
    gamma[3] = 50
    initializers = []
    ids = ir.Value(
        name="input_ids", shape=ir.Shape(["N", "L"]), type=ir.TensorType(ir.DataType.INT32)
    )

    def weight(name):
        return _value(
            name, (random.normal(size=(WIDTH, WIDTH)) / 6).astype(np.float32), initializers
        )

    rows = ir.node("Gather", [_value("table", table, initializers), ids], name="look_up")
    normed = ir.node(
        "LayerNormalization",
        [rows.outputs[0], _value("gamma", gamma, initializers),
         _value("beta", np.zeros(WIDTH, np.float32), initializers)],
        name="norm",
    )  # fmt: skip
    first = ir.node("MatMul", [normed.outputs[0], weight("first_weight")], name="first")
    second = ir.node("MatMul", [normed.outputs[0], weight("second_weight")], name="second")
    joined = ir.node("Mul", [first.outputs[0], second.outputs[0]], name="joined")
    third = ir.node("MatMul", [joined.outputs[0], weight("third_weight")], name="third")
    added = ir.node("Add", [third.outputs[0], normed.outputs[0]], name="residual")
    mean = ir.node("ReduceMean", [added.outputs[0], _value("axes", np.array([1]), initializers)],
                   {"keepdims": 0}, name="mean")  # fmt: skip
    length = ir.node("ReduceL2", [mean.outputs[0], _value("last", np.array([1]), initializers)],
                     {"keepdims": 1}, name="length")  # fmt: skip
    unit = ir.node("Div", [mean.outputs[0], length.outputs[0]], name="unit")
    nodes = [rows, normed, first, second, joined, third, added, mean, length, unit]
    for node in nodes:
        node.outputs[0].name = f"{node.name}_out"
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    unit.outputs[0].name = "embedding"
    graph = ir.Graph([ids], [unit.outputs[0]], nodes=nodes, initializers=initializers,
                     opset_imports={"": 20, "com.microsoft": 1}, name="tower")  # fmt: skip
    return save_engine(ir.Model(graph, ir_version=10), tmp_path / "fp32" / "model.onnx")


@pytest.fixture
def batches():
    random = np.random.default_rng(1)
    return [{"input_ids": random.integers(0, VOCABULARY, (8, 12)).astype(np.int32)}
            for _ in range(6)]  # fmt: skip


def _run(path, batch):
    return open_session(path, 1).run(["embedding"], batch)[0]


def _worst(path, tower, batches):
    return min(float((_run(path, b) * _run(tower, b)).sum(1).min()) for b in batches)


def test_a_table_has_a_scale_for_each_row(tower, tmp_path):
    model = ir.load(tower)
    table = model.graph.initializers["table"].const_value.numpy()
    assert quantise_tables(model) == 1
    rows = model.graph.initializers["table_int8"].const_value.numpy()
    scales = model.graph.initializers["table_scales"].const_value.numpy()
    assert rows.dtype == np.int8
    assert scales.shape == (VOCABULARY, 1)
    error = np.abs(rows * scales - table).max(axis=1)
    assert (error <= np.abs(table).max(axis=1) / 253).all()
    quantised = save_engine(model, tmp_path / "tables.onnx")
    ids = {"input_ids": np.arange(VOCABULARY, dtype=np.int32).reshape(200, 10)}
    assert (_run(quantised, ids) * _run(tower, ids)).sum(1).min() > 0.999
    assert quantised.stat().st_size < tower.stat().st_size


def test_small_tables_and_other_lookups_stay(tower):
    model = ir.load(tower)
    table = model.graph.initializers["table"]
    table.const_value = ir.tensor(np.ones((3, WIDTH), np.float32), name="table")
    assert quantise_tables(model) == 0
    model = ir.load(tower)
    look_up = next(node for node in model.graph if node.name == "look_up")
    look_up.attributes["axis"] = ir.AttrInt64("axis", 1)
    assert quantise_tables(model) == 0


def test_smoothing_changes_nothing_in_fp32_and_evens_out_the_activations(tower, batches, tmp_path):
    model = ir.load(tower)
    groups = groups_of(model)
    assert [[p.name for p in group.products] for group in groups] == [
        ["first", "second"],
        ["third"],
    ]
    activations = activations_of(tower, groups, batches)
    before = [loss(activations[0], weight) for weight in groups[0].weights()]
    (changed, after), _ = smooth(model, groups, activations)
    assert changed
    assert sum(after) < 0.3 * sum(before)
    smoothed = save_engine(model, tmp_path / "smoothed.onnx")
    for batch in batches:
        assert np.allclose(_run(smoothed, batch), _run(tower, batch), atol=1e-5)
    # The residual takes the norm's output as it was, so the division is an operator of its own.
    assert "Mul" in [user.op_type for user, _ in _norm(model).outputs[0].uses()]


def test_a_norm_that_feeds_products_alone_takes_the_division(tower, batches, tmp_path):
    model = ir.load(tower)
    third = next(node for node in model.graph if node.name == "third")
    residual = next(node for node in model.graph if node.name == "residual")
    residual.replace_input_with(1, third.outputs[0])
    alone = save_engine(model, tmp_path / "alone" / "model.onnx")
    model = ir.load(alone)
    nodes = len(list(model.graph))
    groups = groups_of(model)
    changed, _ = smooth(model, groups[:1], activations_of(alone, groups[:1], batches))[0]
    assert changed
    assert len(list(model.graph)) == nodes
    smoothed = save_engine(model, tmp_path / "smoothed.onnx")
    assert np.allclose(_run(smoothed, batches[0]), _run(alone, batches[0]), atol=1e-5)


def _norm(model):
    return next(node for node in model.graph if node.op_type == "LayerNormalization")


@pytest.mark.skipif(saturates(), reason="weights have 7 bits on this processor")
def test_a_product_is_rounded_as_onnxruntime_rounds_it(tmp_path):
    random = np.random.default_rng(2)
    values = random.normal(0.3, size=(50, WIDTH)).astype(np.float32)
    weight = (random.normal(size=(WIDTH, 24)) * random.uniform(0.1, 9, 24)).astype(np.float32)
    x = ir.Value(name="x", shape=ir.Shape(["N", WIDTH]), type=ir.TensorType(ir.DataType.FLOAT))
    product = ir.node("MatMul", [x, ir.Value(name="w", const_value=ir.tensor(weight, name="w"))])
    (output,) = product.outputs
    output.name, output.type, output.shape = "embedding", x.type, ir.Shape(["N", 24])
    graph = ir.Graph([x], [output], nodes=[product], initializers=[product.inputs[1]],
                     opset_imports={"": 20}, name="product")  # fmt: skip
    plain = save_engine(ir.Model(graph, ir_version=10), tmp_path / "model.onnx")
    candidate = next(Ladder(plain, tmp_path / "engines", []).candidates())
    answered = _run(candidate.path, {"x": values})
    exact = values @ weight
    rounded = products.rounded_activation(values) @ products.rounded_weight(weight)
    assert np.abs(rounded - exact).max() > 0.05  # else this test would show nothing
    assert np.allclose(answered, rounded, atol=1e-4)
    lost = np.square(answered - exact).sum() / np.square(exact).sum()
    assert loss([values], weight) == pytest.approx(lost, rel=1e-3)


def test_products_are_looked_at_in_short_and_long_texts(tower, tmp_path):
    batches = [{"input_ids": np.zeros((1, length), np.int32)} for length in range(2, 9)]
    ladder = Ladder(tower, tmp_path, batches)
    assert [b["input_ids"].shape[1] for b in ladder._batches] == [2, 4, 6, 8]


def test_each_step_of_the_ladder_is_an_engine_and_the_outliers_are_met(tower, batches, tmp_path):
    ladder = Ladder(tower, tmp_path / "engines", batches)
    made = {candidate.how: candidate.path for candidate in ladder.candidates()}
    hows = list(made)
    assert hows[0] == "dynamic"
    assert hows[1] == "dynamic, smoothed"
    assert hows[2] == "dynamic, smoothed, 1 products in FP32"
    assert hows[-1] == "blockwise, blocks of 32"
    worst = {how: _worst(path, tower, batches) for how, path in made.items()}
    assert worst["dynamic, smoothed"] > worst["dynamic"]
    assert worst["blockwise, blocks of 32"] > worst["dynamic"]
    assert worst["dynamic, smoothed"] > 0.99


def test_without_calibration_texts_nothing_is_smoothed(tower, tmp_path):
    hows = [candidate.how for candidate in Ladder(tower, tmp_path / "e", []).candidates()]
    assert hows == ["dynamic", "blockwise, blocks of 32"]


def test_four_bits_are_smaller_than_eight_and_tables_are_among_them(tower, batches, tmp_path):
    ladder = Ladder(tower, tmp_path / "engines", batches)
    eight = next(ladder.candidates()).path.stat().st_size
    made = {candidate.how: candidate.path for candidate in ladder.of_four_bits()}
    assert list(made) == [
        "4 bits, blocks of 32, tables in 4 bits",
        "4 bits, blocks of 16, tables in 4 bits",
        "4 bits, blocks of 16, tables in 8 bits",
    ]
    sizes = [path.stat().st_size for path in made.values()]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[0] < 0.7 * eight
    for path in made.values():
        assert _worst(path, tower, batches) > 0.9
