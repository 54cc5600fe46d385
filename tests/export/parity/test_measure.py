"""Engines measured against PyTorch, one at a time."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from vireo_client.embedder import Embedder
from vireo_client.repository import model_file
from vireo_client.text.pipeline import TextPath
from vireo_client.towers.engine import OnnxEngine
from vireo_client.towers.onnx import OnnxTowers
from vireo_export.parity import measure
from vireo_export.parity.gate import RECALLS
from vireo_export.parity.measure import ParityMeasurement, measure_parity
from vireo_export.precision.build import Engine
from vireo_training.sources import open_source


@pytest.fixture(scope="module")
def fp32(repository):
    return {
        model: model_file(repository.folder, model) for model in ("text_encoder", "image_encoder")
    }


@dataclass
class Openings:
    paths: list[Path] = field(default_factory=list)
    open_now: set[OnnxEngine] = field(default_factory=set)
    most_open: int = 0


@pytest.fixture
def openings(monkeypatch):
    """Count the engines that the measurement opens, and those open at one time."""

    count = Openings()

    class Counted(OnnxEngine):
        def __init__(self, path, threads=0, **options):
            super().__init__(path, threads, **options)
            count.paths.append(path)
            count.open_now.add(self)
            count.most_open = max(count.most_open, len(count.open_now))

        def close(self):
            super().close()
            count.open_now.remove(self)

    monkeypatch.setattr(measure, "OnnxEngine", Counted)
    return count


@pytest.fixture(scope="module")
def source(bundle):
    return open_source(bundle.folder)


def copy(path, folder):
    return shutil.copy(path, folder / f"{path.parent.parent.name}.onnx")


def test_each_fp32_engine_is_opened_once_and_alone(source, fp32, test_records, openings):
    measurement = ParityMeasurement(source, test_records[:20], fp32, threads=1)
    parity = measurement.parity(
        {
            "text": Engine("fp32", fp32["text_encoder"]),
            "image": Engine("fp32", fp32["image_encoder"]),
        }
    )
    assert openings.paths == list(fp32.values())
    assert openings.most_open == 1
    assert not openings.open_now
    assert [(e.tower, e.precision) for e in parity.engines] == [("text", "fp32"), ("image", "fp32")]
    assert all(s.latency_ratio == 1 for e in parity.engines for s in e.shapes)


def test_each_engine_is_opened_once(source, fp32, test_records, openings, tmp_path):
    for name in ("fp16", "rounding", "int8"):
        (tmp_path / name).mkdir()
    text, image = fp32.values()
    half = Engine("fp16", copy(text, tmp_path / "fp16"), rounding=copy(text, tmp_path / "rounding"))
    quantised = Engine("int8", copy(image, tmp_path / "int8"), "entropy")
    measurement = ParityMeasurement(source, test_records[:20], fp32, threads=1)
    assert measurement.quality("image", quantised.path, "int8").passes
    assert openings.paths == [quantised.path]
    parity = measurement.parity({"text": half, "image": quantised})
    assert openings.most_open == 3
    assert not openings.open_now
    assert openings.paths[1:] == [text, half.rounding, half.path, image]
    assert [(e.tower, e.precision, e.how) for e in parity.engines] == [
        ("text", "fp32", ""), ("text", "fp16", ""), ("image", "fp32", ""),
        ("image", "int8", "entropy"),
    ]  # fmt: skip


def test_an_engine_that_fails_a_first_look_is_not_measured_further(
    source, fp32, test_records, openings, tmp_path, monkeypatch
):
    monkeypatch.setattr(measure, "FIRST_LOOK", 4)
    path = fp32["text_encoder"]
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 2 and values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    measurement = ParityMeasurement(source, test_records[:20], fp32, threads=1)
    refused = measurement.quality("text", tmp_path / "model.onnx", "int8")
    assert (refused.passes, refused.recall, refused.inputs) == (False, None, 4)
    assert refused.latency_ms > 0
    assert not openings.open_now
    taken = measurement.quality("text", path, "int8")
    assert taken.passes
    assert taken.inputs == len(measurement.captions)


def test_an_engine_that_answers_one_text_with_nan_does_not_pass(
    source, fp32, test_records, tmp_path, monkeypatch
):
    monkeypatch.setattr(measure, "FIRST_LOOK", 1)
    monkeypatch.setattr(measure, "recall_loss", lambda before, after: 0.0)  # it would refuse, too
    measurement = ParityMeasurement(source, test_records[:20], fp32, threads=1)
    text_path = TextPath.from_bundle(source.bundle)
    first, *others = text_path.ids(measurement.captions)
    unseen = next(number for row in others for number in row if number not in first)
    model = onnx.load(fp32["text_encoder"])
    vocab_size = source.bundle.config.text.vocab_size
    (table,) = (t for t in model.graph.initializer if [*t.dims][:1] == [vocab_size])
    rows = onnx.numpy_helper.to_array(table).copy()
    rows[unseen] = np.nan
    table.CopyFrom(onnx.numpy_helper.from_array(rows, table.name))
    onnx.save(model, tmp_path / "model.onnx")
    quality = measurement.quality("text", tmp_path / "model.onnx", "int8")
    assert quality.inputs == len(measurement.captions)
    assert not quality.passes
    assert np.isnan(quality.min_cosine)


def test_figures_are_those_of_the_engines_that_are_served(source, repository, fp32, test_records):
    measurement = ParityMeasurement(source, test_records, fp32, threads=1)
    parity = measurement.parity(
        {
            "text": Engine("fp32", fp32["text_encoder"]),
            "image": Engine("fp32", fp32["image_encoder"]),
        }
    )
    with Embedder(repository, OnnxTowers.from_repository(repository, threads=1)) as embedder:
        served = measure_parity(measurement.corpus, embedder, test_records)
    assert (parity.text, parity.image) == (served.text, served.image)
    assert parity.metrics_engine == served.metrics_engine
    assert parity.metrics_reference == served.metrics_reference


@pytest.mark.parametrize("tower", ["text", "image"])
def test_a_damaged_engine_does_not_pass(source, fp32, test_records, tmp_path, tower):
    path = fp32[f"{tower}_encoder"]
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 2 and values.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    measurement = ParityMeasurement(source, test_records[:20], fp32, threads=1)
    whole = measurement.quality(tower, path, "fp32")
    damaged = measurement.quality(tower, tmp_path / "model.onnx", "fp32")
    assert whole.passes
    assert whole.min_cosine > 0.9999
    assert not damaged.passes
    assert damaged.recall is None
    assert damaged.min_cosine < 0.9999
    assert whole.recall == pytest.approx(
        np.mean([measurement.metrics[way][key] for way in ("text_to_image", "image_to_text")
                 for key in RECALLS])
    )  # fmt: skip
