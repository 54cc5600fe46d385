import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.errors import ParityError, VireoError
from vireo_client.index import neutral
from vireo_client.repository import PARITY_FILE, model_file
from vireo_client.towers.onnx import OnnxTowers
from vireo_export.export import export
from vireo_export.parity.gate import Parity, TowerParity, check
from vireo_export.parity.measure import measure_parity
from vireo_training.evaluation.evaluate import embed_corpus
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.sources import open_source


def _signature(path):
    graph = onnx.load(path).graph
    return [
        (v.name, v.type.tensor_type.elem_type,
         [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in [*graph.input, *graph.output]
    ]  # fmt: skip


def test_towers_take_ids_and_pixels_and_give_embeddings(repository):
    types, side = onnx.TensorProto, repository.config.image.size
    assert _signature(model_file(repository.folder, "text_encoder")) == [
        ("input_ids", types.INT32, ["batch", "length"]),
        ("embedding", types.FLOAT, ["batch", 256]),
    ]
    assert _signature(model_file(repository.folder, "image_encoder")) == [
        ("pixels", types.UINT8, ["batch", 3, side, side]),
        ("embedding", types.FLOAT, ["batch", 256]),
    ]


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_every_bucket_and_batch_agrees_with_pytorch(bundle, repository, batch):
    reference, engine = TorchTowers.from_bundle(bundle), OnnxTowers.from_repository(repository)
    rng = np.random.default_rng(batch)
    for bucket in bundle.config.text.buckets:
        ids = rng.integers(4, bundle.config.text.vocab_size, (batch, bucket), dtype=np.int32)
        for row in ids:
            row[rng.integers(1, bucket + 1) :] = bundle.config.text.pad_id
        assert np.allclose(reference.encode_text(ids), engine.encode_text(ids), atol=1e-5)
    side = bundle.config.image.size
    pixels = rng.integers(0, 256, (batch, 3, side, side), dtype=np.uint8)
    assert np.allclose(reference.encode_image(pixels), engine.encode_image(pixels), atol=1e-5)


def test_the_repository_is_a_bundle_without_weights(bundle, repository):
    assert repository.bundle_id == bundle.bundle_id
    assert not (repository.folder / "model.safetensors").exists()
    parity = json.loads((repository.folder / PARITY_FILE).read_text())
    assert parity["text"]["min_cosine"] > 0.9999
    assert parity["image"]["min_cosine"] > 0.9999
    assert parity["metric_change"] == 0
    assert parity["text"]["compared"] == 192


def test_the_neutral_queries_are_embedded_by_the_engine(repository):
    noted = json.loads((repository.folder / neutral.FILE).read_text())
    assert noted["bundle_id"] == repository.bundle_id
    vectors = neutral.from_json(json.dumps(noted), repository.config.embedding_dim)
    with Embedder(repository, OnnxTowers.from_repository(repository)) as embedder:
        expected = neutral.embed_usable(embedder.embed_texts, list(neutral.neutral_queries()))
    assert len(vectors) > 10
    assert np.allclose(vectors, expected, atol=1e-3)


class WrongWhenExported(nn.Module):
    """A tower whose graph answers otherwise than the module itself."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        vectors = self.tower(inputs)
        if torch.compiler.is_exporting():
            # One wrong vector in a batch must be enough.
            vectors = torch.cat([vectors[:1].flip(1), vectors[1:]])
        return vectors


def test_a_failed_gate_leaves_the_previous_repository(bundle, repository, test_records, tmp_path):
    target = shutil.copytree(repository.folder, tmp_path / "repository")
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    source = open_source(bundle.folder)
    wrong = replace(source, text_tower=WrongWhenExported(source.text_tower).eval())
    with pytest.raises(
        ParityError, match=r"onnx text tower: cosine to PyTorch is -?0\.\d+ at worst"
    ):
        export(wrong, target, test_records)
    assert before == {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert [p.name for p in tmp_path.iterdir()] == ["repository"]


def test_export_does_not_write_over_other_folders(bundle, test_records, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(VireoError, match=r"holds no parity\.json"):
        export(open_source(bundle.folder), tmp_path, test_records)


def test_export_does_not_write_over_a_trained_bundle(bundle, test_records, tmp_path):
    target = shutil.copytree(bundle.folder, tmp_path / "bundle")
    with pytest.raises(VireoError, match=r"holds no parity\.json"):
        export(open_source(bundle.folder), target, test_records)
    assert (target / "model.safetensors").is_file()


@pytest.mark.parametrize("cosine", [0.9998, float("nan"), -1.0])
def test_the_gate_refuses_a_poor_cosine(cosine):
    good = TowerParity(10, 1.0, 1.0, 0.0)
    metrics = {
        way: {"queries": 10, "recall_at_1": 1.0} for way in ("text_to_image", "image_to_text")
    }
    bad = TowerParity(10, cosine, cosine, 1.0)
    check(Parity("x", good, good, metrics, metrics))
    with pytest.raises(ParityError):
        check(Parity("x", bad, good, metrics, metrics))
    with pytest.raises(ParityError):
        check(Parity("x", good, bad, metrics, metrics))


def test_the_gate_refuses_lost_recall():
    good = TowerParity(1000, 1.0, 1.0, 0.0)
    before = {w: {"queries": 1000, "recall_at_1": 0.9} for w in ("text_to_image", "image_to_text")}
    after = {w: {"queries": 1000, "recall_at_1": 0.89} for w in ("text_to_image", "image_to_text")}
    with pytest.raises(ParityError, match=r"changed by 0\.0100"):
        check(Parity("x", good, good, before, after))


def test_comparing_an_engine_with_itself_is_perfect(repository, test_records):
    with Embedder(repository, OnnxTowers.from_repository(repository)) as engine:
        parity = measure_parity(embed_corpus(engine, test_records[:10]), engine, test_records[:10])
    assert parity.metric_change == 0
    assert parity.image.max_abs_difference < 1e-6


def test_an_engine_that_does_not_load_is_an_error(repository, tmp_path):
    folder = shutil.copytree(repository.folder, tmp_path / "r")
    model_file(folder, "text_encoder").write_bytes(b"not onnx")
    with pytest.raises(VireoError, match="does not load in ONNX Runtime"):
        OnnxTowers.from_repository(Bundle(folder))
