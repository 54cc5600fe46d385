"""Whole exports of a trained bundle in INT8 and FP16."""

import json

import numpy as np
import pytest
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.repository import model_file
from vireo_client.towers.onnx import OnnxTowers
from vireo_client.towers.triton import TritonTowers
from vireo_export.export import EngineOptions, export
from vireo_export.parity.report import PARITY_FILE, PLOT_FILE, TABLE_FILE
from vireo_export.precision import Precisions
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_training.sources import open_source


@pytest.fixture(scope="module")
def int8(bundle, test_records, tmp_path_factory):
    """The bundle's model repository in INT8."""
    folder = tmp_path_factory.mktemp("int8") / "model_repository"
    options = EngineOptions(Precisions("int8", "int8"))
    return export(open_source(bundle.folder), folder, test_records, None, options), Bundle(folder)


def test_int8_keeps_recall_and_is_smaller(int8, repository):
    parity, exported = int8
    assert parity.precisions == Precisions("int8", "int8")
    assert min(parity.text.min_cosine, parity.image.min_cosine) >= 0.98
    queries = 48  # images; a loss of one query is the smallest that can be measured
    assert parity.recall_loss <= 1 / queries + 1e-9
    for model in ("text_encoder", "image_encoder"):
        sizes = [model_file(r.folder, model).stat().st_size for r in (exported, repository)]
        assert sizes[0] < 0.6 * sizes[1]


def test_every_bucket_and_batch_shape_is_in_the_report(int8):
    _, exported = int8
    report = json.loads((exported.folder / PARITY_FILE).read_text())
    engines = {(e["tower"], e["precision"]): e for e in report["engines"]}
    assert set(engines) == {(t, p) for t in ("text", "image") for p in ("fp32", "int8")}
    assert engines["text", "int8"]["how"].startswith("dynamic")
    assert engines["image", "int8"]["how"].startswith(("entropy", "percentile"))
    for (tower, precision), engine in engines.items():
        buckets = exported.config.text.buckets if tower == "text" else (None,)
        shapes = [(s["bucket"], s["batch"]) for s in engine["shapes"]]
        assert shapes == [(b, n) for b in buckets for n in (1, 16)]
        assert all(s["vectors"]["compared"] == 16 for s in engine["shapes"])
        assert all(s["latency_ms"] > 0 and s["latency_ratio"] > 0 for s in engine["shapes"])
        required = report["settings"][precision]["min_cosine"]
        assert all(s["vectors"]["min_cosine"] >= required for s in engine["shapes"])
        assert set(engine["recall"]["text_to_image"]) == {f"recall_at_{k}" for k in (1, 5, 10)}
    assert engines["text", "int8"]["size_ratio"] < 1
    table = (exported.folder / TABLE_FILE).read_text()
    for row in ("| text | int8 | 64 | 16 |", "| image | int8 | image | 1 |", "| image | fp32 |"):
        assert row in table
    assert (exported.folder / PLOT_FILE).read_bytes().startswith(b"\x89PNG")


def test_no_temporary_file_is_left_in_the_repository(int8):
    _, exported = int8
    files = {p.relative_to(exported.folder).as_posix() for p in exported.folder.rglob("*")}
    temporary = (".engines", "exported", "fp32", "tables", "percentile", "entropy")
    assert [name for name in files if any(part in name for part in temporary)] == []
    assert {"text_encoder/1/model.onnx", "image_encoder/1/model.onnx"} <= files


def test_int8_is_served_by_triton(int8, test_records):
    _, exported = int8
    texts = [c for record in test_records[:8] for c in record.captions]
    images = [record.path for record in test_records[:8]]
    with TritonServer(exported.folder, ports=Ports(0, 0, 0)) as server:
        answers = []
        for towers in (
            TritonTowers(exported, server.url),
            OnnxTowers.from_repository(exported, threads=1),
        ):
            with Embedder(exported, towers) as embedder:
                answers.append((embedder.embed_texts(texts), embedder.embed_images(images)))
    for served, in_process in zip(*answers, strict=True):
        assert np.allclose(served, in_process, atol=1e-5)


def test_fp16_passes_its_gate(bundle, test_records, tmp_path):
    options = EngineOptions(Precisions("fp16", "fp16"))
    parity = export(open_source(bundle.folder), tmp_path / "r", test_records[:16], None, options)
    assert min(parity.text.min_cosine, parity.image.min_cosine) >= 0.999
    fp16 = [e for e in parity.engines if e.precision == "fp16"]
    assert [e.tower for e in fp16] == ["text", "image"]
    # The graph itself is a large part of these small files.
    assert all(e.size_ratio < 0.65 for e in fp16)
