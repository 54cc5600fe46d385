import numpy as np
import onnx
import pytest
import torch
from support.onnx_runs import run, worst_cosine
from support.tiny_models import HUGGINGFACE
from vireo_client.errors import EngineError, ParityError
from vireo_export.onnx.export import export_tower
from vireo_export.onnx.optimise import optimise
from vireo_export.precision import ladder as ladder_module
from vireo_export.precision.build import EngineQuality, build_engine
from vireo_export.precision.calibration import Calibration
from vireo_export.precision.candidates import candidates
from vireo_export.precision.ladder import saturates
from vireo_training.sources import open_source


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def prepared(exported, folder, preset, tower):
    source = exported(preset, tower)
    optimise(source.path, folder / "model.onnx")
    return source, Calibration({f"{tower}_encoder": [source.inputs]})


@pytest.mark.parametrize("preset", ["phobert-dinov2", "mini-transformer", "mini-lstm"])
def test_text_towers_are_quantised_dynamically(exported, tmp_path, preset):
    source, calibration = prepared(exported, tmp_path, preset, "text")
    rounds = list(candidates("text_encoder", tmp_path / "model.onnx", tmp_path / "c", calibration))
    hows = [candidate.how for (candidate,) in rounds]
    assert hows[0] == "dynamic"
    assert hows[-1] == "blockwise, blocks of 32"
    assert len(set(hows)) == len(hows)
    for (candidate,) in rounds:
        answered = run(candidate.path, source.inputs)
        assert worst_cosine(answered, source.expected()) > 0.98
        assert candidate.path.stat().st_size < (tmp_path / "model.onnx").stat().st_size
    for (candidate,) in rounds[:-1]:
        operators = kinds(candidate.path)
        assert {"MatMulInteger", "DynamicQuantizeLSTM"} & set(operators)
        assert "LSTM" not in operators
    dynamic = kinds(rounds[0][0].path)
    assert "Gemm" not in dynamic


def test_attention_keeps_its_mask(exported, tmp_path):
    """ONNX Runtime's quantised attention accepts no mask of this shape, so it must not be used."""
    source, calibration = prepared(exported, tmp_path, "phobert-dinov2", "text")
    rounds = candidates("text_encoder", tmp_path / "model.onnx", tmp_path / "c", calibration)
    ((candidate,), *_) = rounds
    assert kinds(candidate.path).count("MultiHeadAttention") == 2
    assert "QAttention" not in kinds(candidate.path)
    ids = source.inputs["input_ids"]
    # These rows have at most 7 tokens, so only padding is cut off.
    shorter = run(candidate.path, {"input_ids": ids[2:, :8]})
    assert worst_cosine(shorter, run(candidate.path, {"input_ids": ids[2:]})) > 0.999


@pytest.mark.parametrize(
    ("preset", "plain"),
    [("phobert-dinov2", False), ("phobert-convnextv2", False), ("scenes", True)],
)
def test_image_towers_are_calibrated_two_ways(exported, tmp_path, preset, plain):
    source, calibration = prepared(exported, tmp_path, preset, "image")
    rounds = list(candidates("image_encoder", tmp_path / "model.onnx", tmp_path / "c", calibration))
    assert [[c.how for c in candidates_of_round] for candidates_of_round in rounds] == [
        ["entropy", "percentile"],
        [f"{m}, first and last layer in FP32" for m in ("entropy", "percentile")],
    ]
    for candidates_of_round in rounds:
        for candidate in candidates_of_round:
            assert worst_cosine(run(candidate.path, source.inputs), source.expected()) > 0.98
    first, ends_in_fp32 = (onnx.load(entropy.path).graph for entropy, _ in rounds)
    assert [n.op_type for n in first.node].count("QuantizeLinear") > [
        n.op_type for n in ends_in_fp32.node
    ].count("QuantizeLinear")
    scales = [t for t in first.initializer if t.name.endswith("_scale") and t.dims]
    assert any(t.dims[0] > 1 for t in scales)  # per channel
    # A plain CNN stays in INT8 between its convolutions, pools included.
    pooled = {n.output[0] for n in first.node if n.op_type in ("MaxPool", "AveragePool")}
    quantised = {n.input[0] for n in first.node if n.op_type == "QuantizeLinear"}
    assert bool(pooled & quantised) == plain
    # The outputs of a transformer's products are not quantised.
    products = {n.output[0] for n in first.node if n.op_type == "MatMul"}
    assert products.isdisjoint(quantised)
    assert bool(products) == (preset == "phobert-dinov2")


def test_pooling_by_attention_stays_in_fp32(tmp_path):
    """SigLIP's pooling is not one fused operator; in INT8 its largest weights would become 0."""
    HUGGINGFACE["siglip2"](tmp_path / "tiny")
    tower = open_source(tmp_path / "tiny").image_tower
    coarse = np.random.default_rng(0).integers(0, 256, (72, 3, 4, 4), dtype=np.uint8)
    pixels = coarse.repeat(8, axis=2).repeat(8, axis=3)  # unlike noise, these images differ
    batch = {0: torch.export.Dim("batch")}
    plain = export_tower(
        tower, torch.from_numpy(pixels[:2]), "pixels", batch, tmp_path / "plain.onnx"
    )
    optimise(plain, tmp_path / "model.onnx")
    assert "Softmax" in kinds(tmp_path / "model.onnx")  # else this test would show nothing
    calibration = Calibration({"image_encoder": [{"pixels": pixels[8:]}]})
    rounds = candidates("image_encoder", tmp_path / "model.onnx", tmp_path / "c", calibration)
    with torch.no_grad():
        expected = tower(torch.from_numpy(pixels[:8])).numpy()
    for candidate in next(rounds):
        assert worst_cosine(run(candidate.path, {"pixels": pixels[:8]}), expected) > 0.98
        graph = onnx.load(candidate.path).graph
        weights = {t.name for t in graph.initializer}
        producer = {n.output[0]: n for n in graph.node}
        second = [producer[n.input[1]] for n in graph.node if n.op_type == "MatMul"]
        # Only weights are dequantised before a product; two products have no weight.
        dequantised = [n for n in second if n.op_type == "DequantizeLinear"]
        assert dequantised
        assert all(n.input[0] in weights for n in dequantised)
        assert len(second) - len(dequantised) == 2


def _build(exported, tmp_path, qualities):
    _, calibration = prepared(exported, tmp_path, "scenes", "image")
    judged = []

    def judge(path):
        judged.append(path)
        return qualities[len(judged) - 1]

    engine = build_engine(
        "int8", "image_encoder", tmp_path / "model.onnx", tmp_path / "e", calibration, judge
    )
    return engine, len(judged)


def test_recall_chooses_the_engine_before_cosine(exported, tmp_path):
    engine, judged = _build(
        exported, tmp_path, [EngineQuality(True, 0.50, 0.999), EngineQuality(True, 0.51, 0.99)]
    )
    assert (engine.how, judged) == ("percentile", 2)


def test_cosine_chooses_among_equals(exported, tmp_path):
    engine, _ = _build(
        exported, tmp_path, [EngineQuality(True, 0.5, 0.99), EngineQuality(True, 0.5, 0.98)]
    )
    assert engine.how == "entropy"


def test_a_second_round_is_made_only_if_the_first_fails(exported, tmp_path):
    fails = EngineQuality(False, 0.9, 0.97)
    engine, judged = _build(
        exported,
        tmp_path,
        [fails, fails, EngineQuality(True, 0.5, 0.98), EngineQuality(False, 0.6, 0.97)],
    )
    assert (engine.how, judged) == ("entropy, first and last layer in FP32", 4)


def test_a_refusal_names_every_way_that_was_tried(exported, tmp_path):
    fails = EngineQuality(False, None, 0.91, 32)
    with pytest.raises(ParityError, match="nothing was published") as refused:
        _build(exported, tmp_path, [fails] * 4)
    for how in ("entropy", "percentile", "entropy, first and last layer in FP32"):
        assert f"{how} (cosine 0.9100 at worst over 32 inputs)" in str(refused.value)


def test_an_engine_that_this_runtime_does_not_run_is_passed_over(exported, tmp_path):
    def judge(path):
        if "entropy" in path.parent.name:
            raise EngineError(f"{path}: does not load in ONNX Runtime (no such operator)")
        return EngineQuality(True, 0.5, 0.99)

    _, calibration = prepared(exported, tmp_path, "scenes", "image")
    engine = build_engine(
        "int8", "image_encoder", tmp_path / "model.onnx", tmp_path / "e", calibration, judge
    )
    assert engine.how == "percentile"
    left, taken = engine.tried
    assert "no such operator" in left.reason
    assert not taken.reason


def test_weights_have_seven_bits_only_where_sums_saturate(monkeypatch):
    def machine(name, flags):
        monkeypatch.setattr(ladder_module.platform, "machine", lambda: name)
        monkeypatch.setattr(ladder_module.Path, "read_text", lambda _: f"flags : {flags}\n")
        return saturates()

    assert machine("x86_64", "avx2 fma")
    assert not machine("x86_64", "avx2 avx512f avx512_vnni")
    assert not machine("AMD64", "avx2 avx_vnni")
    assert not machine("aarch64", "asimd")
