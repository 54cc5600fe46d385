import json
import shutil

import numpy as np
import onnx
import pytest
from support.onnx_runs import run, worst_cosine
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.repository import MODELS, model_file
from vireo_client.towers.onnx import OnnxTowers
from vireo_client.towers.triton import TritonTowers
from vireo_export.export import EngineOptions, export
from vireo_export.onnx.external_data import (
    data_file,
    engine_bytes,
    save_engine,
    uses_external_data,
)
from vireo_export.onnx.optimise import optimise
from vireo_export.precision import Precisions
from vireo_export.precision.calibration import Calibration, largest_values
from vireo_export.precision.candidates import candidates
from vireo_export.precision.fp16 import to_fp16
from vireo_export.precision.rounding import with_rounding
from vireo_serving.repository.publish import move_engine
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
from vireo_training.sources import open_source

LIMIT = 1000


@pytest.mark.parametrize("tower", ["text", "image"])
def test_every_step_reads_and_writes_a_data_file(exported, tmp_path, tower):
    source = exported("phobert-dinov2", tower)
    model = f"{tower}_encoder"
    expected = source.expected()
    first = save_engine(onnx.load(source.path), tmp_path / "a" / "model.onnx", limit=LIMIT)
    onnx.checker.check_model(str(first), full_check=True)
    optimised = tmp_path / "b" / "model.onnx"
    optimise(first, optimised, limit=LIMIT)
    largest = largest_values(optimised, [source.inputs])
    half = to_fp16(optimised, tmp_path / "c" / "model.onnx", largest, limit=LIMIT)
    rounding = with_rounding(half, tmp_path / "d" / "model.onnx", limit=LIMIT)
    batches = Calibration({model: [source.inputs]})
    small = next(candidates(model, optimised, tmp_path / "e", batches, limit=LIMIT))
    for path in (first, optimised, half, rounding, *(c.path for c in small)):
        assert uses_external_data(path), path
        assert engine_bytes(path) > path.stat().st_size
        assert worst_cosine(run(path, source.inputs), expected) > 0.99
    moved = tmp_path / "moved"
    moved.mkdir()
    path = move_engine(half, moved)
    assert sorted(p.name for p in moved.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert not half.exists()
    assert worst_cosine(run(path, source.inputs), expected) > 0.99


def test_a_file_below_the_limit_stays_one_file(exported, tmp_path):
    source = exported("scenes", "image")
    path = save_engine(onnx.load(source.path), tmp_path / "model.onnx")
    assert not uses_external_data(path)
    assert engine_bytes(path) == path.stat().st_size


def test_triton_loads_engines_with_data_files(bundle, repository, test_records, tmp_path):
    options = EngineOptions(Precisions("int8", "fp32"), external_data_limit=LIMIT)
    folder = tmp_path / "model_repository"
    export(open_source(bundle.folder), folder, test_records[:16], None, options)
    exported = Bundle(folder)
    for model in MODELS:
        assert data_file(model_file(folder, model)).is_file()
    # The folder's place and name must not matter.
    exported = Bundle(shutil.move(folder, tmp_path / "moved"))
    texts = [caption for record in test_records[:4] for caption in record.captions]
    with TritonServer(exported.folder, ports=Ports(0, 0, 0)) as server:
        with Embedder(exported, TritonTowers(exported, server.url)) as embedder:
            served = embedder.embed_texts(texts)
            served_images = embedder.embed_images([r.path for r in test_records[:4]])
    with Embedder(repository, OnnxTowers.from_repository(repository, threads=1)) as embedder:
        assert worst_cosine(served, embedder.embed_texts(texts)) > 0.98
        expected = embedder.embed_images([r.path for r in test_records[:4]])
    assert np.allclose(served_images, expected, atol=1e-5)
    report = json.loads((exported.folder / "parity.json").read_text())
    sizes = {(e["tower"], e["precision"]): e["bytes"] for e in report["engines"]}
    assert sizes["text", "int8"] == engine_bytes(model_file(exported.folder, "text_encoder"))
