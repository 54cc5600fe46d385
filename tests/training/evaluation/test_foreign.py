"""Evaluation of models of others, without exporting them."""

from __future__ import annotations

import json

import pytest
import typer
from support.tiny_models import HUGGINGFACE, OPEN_CLIP
from typer.testing import CliRunner
from vireo_client.embedder import Embedder
from vireo_training.commands.evaluate import evaluate
from vireo_training.evaluation.evaluate import evaluate as measure
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.readers import read_data
from vireo_training.sources import open_source

APP = typer.Typer()
APP.command()(evaluate)


@pytest.mark.parametrize(
    "family", ["hf", pytest.param("open_clip", marks=pytest.mark.filterwarnings("ignore"))]
)
def test_a_model_of_others_is_measured_as_its_towers_answer(scenes, tmp_path, family):
    models = HUGGINGFACE if family == "hf" else OPEN_CLIP
    write = models["clip"] if "clip" in models else next(iter(models.values()))
    write(tmp_path / "model")
    name = f"hf:{tmp_path / 'model'}" if family == "hf" else str(tmp_path / "model")
    data = str(scenes / "test")
    done = CliRunner().invoke(APP, [name, "--data", data, "--at", "1,30", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    source = open_source(name)
    with Embedder(source.bundle, TorchTowers(source.text_tower, source.image_tower)) as embedder:
        by_hand = measure(embedder, read_data(data).records, (1, 30))
    assert report["text_to_image"] == by_hand["text_to_image"]
    assert report["pictures"] == 48
    refused = CliRunner().invoke(APP, [name, "--data", data, "--engine", "onnx"])
    assert refused.exit_code == 2
