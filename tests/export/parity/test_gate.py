"""The parity gate, on made-up figures."""

from dataclasses import replace

import pytest
from vireo_client.bundle import ExportSettings, PrecisionGate
from vireo_client.errors import ParityError
from vireo_export.parity.gate import (
    EngineParity,
    Parity,
    ShapeParity,
    TowerParity,
    allowed_loss,
    check,
    recall_loss,
)
from vireo_export.parity.report import as_markdown
from vireo_export.precision import Precisions

GOOD = TowerParity(1000, 0.9999, 0.99999, 0.001)
WAYS = ("text_to_image", "image_to_text")


def metrics(recall, queries=1000):
    return {
        way: {"queries": queries, "recall_at_1": recall, "recall_at_5": 0.9, "recall_at_10": 0.95}
        for way in WAYS
    }


def parity(precisions, before=0.5, after=0.5, text=GOOD, engines=(), queries=1000):
    return Parity(
        "onnx", text, GOOD, metrics(before, queries), metrics(after, queries), precisions, engines
    )


def test_int8_may_lose_one_point_of_recall_and_no_more():
    int8 = Precisions("int8", "fp32")
    check(parity(int8, 0.5, 0.49))
    check(parity(int8, 0.5, 0.6))  # a gain passes
    with pytest.raises(
        ParityError,
        match=r"text tower in int8, image tower in fp32: recall falls by 1\.1 points, and 1\.0 are "
        r"allowed \(text to image recall@1/5/10 0\.500/0\.900/0\.950 -> 0\.489/0\.900/0\.950, ",
    ):
        check(parity(int8, 0.5, 0.489))


def test_a_loss_at_any_cutoff_in_either_direction_counts():
    worse = metrics(0.5)
    worse["image_to_text"]["recall_at_10"] = 0.93
    assert recall_loss(metrics(0.5), worse) == pytest.approx(0.02)
    with pytest.raises(ParityError, match=r"falls by 2\.0 points"):
        check(replace(parity(Precisions("int8", "int8")), metrics_engine=worse))


def test_fp16_may_lose_less_than_int8():
    check(parity(Precisions("fp16", "fp16"), 0.5, 0.496))
    with pytest.raises(ParityError, match=r"falls by 0\.8 points, and 0\.5 are allowed"):
        check(parity(Precisions("fp16", "fp16"), 0.5, 0.492))


def test_the_loss_of_one_query_is_always_allowed():
    int8 = Precisions("int8", "int8")
    check(parity(int8, 0.5, 0.475, queries=40))
    with pytest.raises(ParityError):
        check(parity(int8, 0.5, 0.45, queries=40))
    assert allowed_loss(int8, metrics(0.5, 40), ExportSettings()) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("precision", "cosine", "passes"),
    [("fp32", 0.99991, True), ("fp32", 0.9998, False), ("fp16", 0.9991, True),
     ("fp16", 0.9989, False), ("int8", 0.981, True), ("int8", 0.979, False),
     ("int8", float("nan"), False)],
)  # fmt: skip
def test_each_precision_is_held_to_its_own_cosine(precision, cosine, passes):
    figures = parity(Precisions(precision, "fp32"), text=TowerParity(10, cosine, cosine, 0.1))
    if passes:
        check(figures)
    else:
        with pytest.raises(ParityError, match=f"{precision} requires at least"):
            check(figures)


def _engine(cosine, bucket=32, batch=16):
    worst = TowerParity(16, cosine, cosine, 0.2)
    shapes = (ShapeParity(bucket, batch, worst, 1.0, 0.5),)
    recall = {way: {f"recall_at_{k}": 0.5 for k in (1, 5, 10)} for way in WAYS}
    return EngineParity("text", "int8", "dynamic", 10, 0.25, GOOD, recall, shapes)


def test_one_bucket_at_one_batch_shape_is_enough_to_fail():
    int8 = Precisions("int8", "fp32")
    check(parity(int8, engines=(_engine(0.99),)))
    with pytest.raises(ParityError, match=r"text tower at bucket 32, batch 16: cosine.*0\.97"):
        check(parity(int8, engines=(_engine(0.97),)))
    with pytest.raises(ParityError):
        check(parity(int8, engines=(_engine(float("nan")),)))


def test_the_bundle_sets_the_thresholds():
    strict = ExportSettings(int8=PrecisionGate(min_cosine=0.995, max_recall_loss=0))
    with pytest.raises(ParityError, match=r"int8 requires at least 0\.995"):
        check(parity(Precisions("int8", "fp32"), engines=(_engine(0.99),)), strict)
    with pytest.raises(ParityError, match=r"0\.1 are allowed"):  # one query of 1000
        check(parity(Precisions("int8", "fp32"), 0.5, 0.495), strict)


def test_the_table_has_recall_before_and_after_and_every_shape():
    table = as_markdown(
        parity(Precisions("int8", "fp32"), 0.5, 0.495, engines=(_engine(0.99),)), ExportSettings()
    )
    for row in (
        "| text to image | PyTorch | 0.5000 | 0.9000 | 0.9500 |",
        "| text to image | published | 0.4950 | 0.9000 | 0.9500 |",
        "| text | int8 | 0.0 MB | 0.250 | 0.990000 | 0.98 | dynamic |",
        "| text | int8 | 32 | 16 | 0.990000 | 0.990000 | 2.0e-01 | 1.00 ms | 0.50 |",
    ):
        assert row in table, table
