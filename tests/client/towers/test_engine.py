"""The engine's answers are those of a plain session, however it cuts a batch."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from vireo_client.errors import EngineError
from vireo_client.towers import engine as engine_module
from vireo_client.towers.engine import LEAST_TOKENS, MOST_TOKENS, OnnxEngine, _parts


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return write_tower(tmp_path_factory.mktemp("engine") / "model.onnx", vocab_size=512)


def write_tower(path, vocab_size):
    """Row-wise arithmetic: ids `[N, L]` to `[N, 4]`."""
    weights = np.random.default_rng(0).normal(size=(vocab_size, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["words"]),
            helper.make_node("ReduceMean", ["words"], ["embedding"], axes=[1], keepdims=0),
        ],
        "tower",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["N", "L"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weights, "table")],
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("length", [16, 64, 500])
@pytest.mark.parametrize("least_seconds", [0.0, engine_module.LEAST_SECONDS])
def test_every_batch_size_gives_what_a_session_gives(
    tower, threads, length, least_seconds, monkeypatch
):
    monkeypatch.setattr(engine_module, "LEAST_SECONDS", least_seconds)
    session = onnxruntime.InferenceSession(tower)
    engine = OnnxEngine(tower, threads)
    random = np.random.default_rng(length)
    for rows in (0, 1, 2, 3, 5, 8, 17, 64):
        ids = random.integers(0, 512, (rows, length)).astype(np.int32)
        expected = session.run(["embedding"], {"input_ids": ids})[0]
        embeddings = engine.run(ids)
        assert embeddings.dtype == np.float32
        assert np.allclose(embeddings, expected, atol=1e-6)
    engine.close()


PADDING = 7


@pytest.fixture(scope="module")
def blind_tower(tmp_path_factory):
    """Sums the table's rows of all ids but `PADDING`, and notes the width of its input beside."""
    table = np.random.default_rng(0).normal(size=(512, 4)).astype(np.float32)
    table[PADDING] = 0
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["words"]),
            helper.make_node("ReduceSum", ["words", "axis"], ["sum"], keepdims=0),
            helper.make_node("Shape", ["input_ids"], ["width"], start=1),
            helper.make_node("Cast", ["width"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Shape", ["input_ids"], ["rows"], end=1),
            helper.make_node("Concat", ["rows", "one"], ["column"], axis=0),
            helper.make_node("Expand", ["number", "column"], ["widths"]),
            helper.make_node("Concat", ["sum", "widths"], ["embedding"], axis=1),
        ],
        "tower",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["N", "L"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 5])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "one"),
        ],
    )
    path = tmp_path_factory.mktemp("blind") / "model.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_padding_is_not_run(blind_tower, threads):
    session = onnxruntime.InferenceSession(blind_tower)
    engine = OnnxEngine(blind_tower, threads, padding=PADDING)
    random = np.random.default_rng(threads)
    for rows in (0, 1, 2, 3, 8, 17, 64):
        ids = random.integers(8, 512, (rows, 32)).astype(np.int32)
        lengths = random.integers(0, 33, rows)
        for row, length in zip(ids, lengths, strict=True):
            row[length:] = PADDING
            row[: length // 2 : 3] = PADDING  # within a text, the id is part of it
        embeddings = engine.run(ids)
        sums, widths = embeddings[:, :4], embeddings[:, 4]
        expected = session.run(["embedding"], {"input_ids": ids})[0]
        assert np.allclose(sums, expected[:, :4], atol=1e-4)
        assert (widths >= np.maximum(lengths, 2)).all()
        if rows:
            assert widths.max() == max(2, lengths.max())
        if rows == 64:
            assert widths.sum() < 0.75 * 64 * 32
    engine.close()


def test_parts_of_texts_of_all_lengths_take_alike_long(blind_tower):
    lengths = np.sort(np.random.default_rng(0).integers(3, 60, 64))
    pieces = engine_module._cut(np.zeros((64, 64), np.int32), 2, lengths)
    assert sum(map(len, pieces)) == 64
    tokens = [piece.size for piece in pieces]
    assert len(pieces) > 4
    assert max(tokens) < 1.4 * min(tokens)


@pytest.mark.parametrize("threads", [1, 2, 4, 16])
@pytest.mark.parametrize("tokens", [16, 64, 256, 512])
def test_parts_keep_every_thread_busy_and_fit_a_core(threads, tokens):
    cut = 0
    for rows in range(1, 130):
        parts = _parts(rows, tokens, threads)
        if not parts:
            continue
        cut += 1
        assert parts <= rows
        largest = -(-rows // parts)
        assert largest == 1 or largest * tokens <= MOST_TOKENS
        assert rows * tokens >= threads * LEAST_TOKENS
        rounds = -(-parts // threads)
        assert rows >= 0.8 * rounds * largest * threads
    assert cut > 30


def test_a_failing_part_fails_the_run(tower):
    engine = OnnxEngine(tower, 2)
    ids = np.full((32, 16), 3, dtype=np.int32)
    ids[31, 0] = 512  # no such row in the table
    with pytest.raises(Exception, match="indices element out of data bounds"):
        engine.run(ids)
    assert engine.run(ids[:31]).shape == (31, 4)


@pytest.fixture
def layer(tmp_path):
    """`x [N, 3, 8]`: an addition before a layer norm, a bias before a GELU."""
    random = np.random.default_rng(0)
    floats = {name: random.normal(size=8).astype(np.float32) for name in ("scale", "shift", "bias")}
    graph = helper.make_graph(
        [
            helper.make_node("Exp", ["x"], ["branch"]),
            helper.make_node("Add", ["x", "branch"], ["sum"]),
            helper.make_node("LayerNormalization", ["sum", "scale", "shift"], ["normed"]),
            helper.make_node("Add", ["normed", "bias"], ["biased"]),
            helper.make_node("Gelu", ["biased"], ["embedding"], domain="com.microsoft"),
        ],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3, 8])],
        [numpy_helper.from_array(values, name) for name, values in floats.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "layer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_fusions_whose_kernels_are_slower_are_not_made(layer, tmp_path, monkeypatch):
    """ONNX Runtime knows them by name and passes over names that it does not know."""
    plain_options = onnxruntime.SessionOptions

    def kinds(open_one):
        def options():
            recording = plain_options()
            recording.optimized_model_filepath = str(tmp_path / "as_run.onnx")
            return recording

        monkeypatch.setattr(onnxruntime, "SessionOptions", options)
        session = open_one()
        values = np.random.default_rng(1).normal(size=(2, 3, 8)).astype(np.float32)
        graph = onnx.load(tmp_path / "as_run.onnx").graph
        return {node.op_type for node in graph.node}, session.run(None, {"x": values})[0]

    by_itself, expected = kinds(
        lambda: onnxruntime.InferenceSession(layer, onnxruntime.SessionOptions())
    )
    ours, output = kinds(lambda: engine_module.open_session(layer, 1))
    assert {"SkipLayerNormalization", "BiasGelu"} <= by_itself
    assert ours == {"Exp", "Add", "LayerNormalization", "Gelu"}
    assert np.allclose(output, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("threads", "least_seconds", "expected"),
    [(2, 10.0, [1]), (2, 0.0, [1, 2]), (1, 0.0, [1])],
    ids=["small", "large", "one thread"],
)
def test_only_a_row_that_takes_long_is_run_on_all_threads(
    tower, monkeypatch, threads, least_seconds, expected
):
    opened = []

    def open_session(path, threads, plain=engine_module.open_session):
        opened.append(threads)
        return plain(path, threads)

    monkeypatch.setattr(engine_module, "open_session", open_session)
    monkeypatch.setattr(engine_module, "LEAST_SECONDS", least_seconds)
    OnnxEngine(tower, threads).close()
    assert opened == expected


def test_the_process_decides_the_threads_by_itself(tower, monkeypatch):
    monkeypatch.setattr(engine_module, "usable_cores", lambda: 5)
    assert OnnxEngine(tower).threads == 5


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"model\.onnx: does not load"):
        OnnxEngine(path)


def test_a_file_that_loads_but_does_not_run_is_named(tmp_path):
    path = write_tower(tmp_path / "model.onnx", vocab_size=1)
    with pytest.raises(EngineError, match=r"model\.onnx: does not run .*out of data bounds"):
        OnnxEngine(path, threads=2)
