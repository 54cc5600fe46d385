"""Fine-tuning of dual encoders that transformers' own `save_pretrained` wrote."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.tiny_models import HUGGINGFACE
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.errors import TrainingError
from vireo_training.loop.train import train
from vireo_training.models.source_towers import open_for_training
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.presets import load_config
from vireo_training.readers import read_data
from vireo_training.sources import open_source

TINY = ["epochs=1", "batch_size=8", "precision=fp32", "validation_fraction=0.2",
        "test_fraction=0", "warmup_epochs=0", "schedule=constant"]  # fmt: skip
STILL = ["lr_image=0", "lr_text=0", "lr_head=0", "weight_decay=0"]


def _embeddings(bundle, towers, data):
    records = read_data(data).records[:6]
    with Embedder(bundle, towers) as embedder:
        texts = embedder.embed_texts([r.captions[0] for r in records], allow_unknown=True)
        images = embedder.embed_images([r.path for r in records])
    return np.concatenate([texts, images])


@pytest.mark.parametrize("family", ["clip", "siglip2", "align", "chinese_clip"])
def test_without_learning_the_bundle_answers_as_the_model(scenes, tmp_path, family):
    folder = HUGGINGFACE[family](tmp_path / "model")
    # The batch statistics of ALIGN's tower move, unless it is frozen.
    freeze = ["image.freeze=true"] if family == "align" else []
    config = load_config(None, [*TINY, *STILL, *freeze], source=f"hf:{folder}")
    bundle = Bundle(train(config, scenes / "test", tmp_path / "run").bundle)
    source = open_source(f"hf:{folder}")
    before = TorchTowers(source.text_tower, source.image_tower)
    expected = _embeddings(source.bundle, before, scenes / "test")
    mine = _embeddings(bundle, TorchTowers.from_bundle(bundle), scenes / "test")
    assert np.abs(mine - expected).max() < 1e-5


@pytest.mark.parametrize("family", ["clip", "siglip"])
@pytest.mark.parametrize("frozen", [None, "image", "text"])
def test_it_learns_and_a_frozen_tower_does_not(scenes, tmp_path, family, frozen):
    folder = HUGGINGFACE[family](tmp_path / "model")
    rates = [f"lr_{part}=0.002" for part in ("image", "text", "head")]
    freeze = [f"{frozen}.freeze=true"] if frozen else []
    config = load_config(None, [*TINY, *rates, *freeze, "epochs=6"], source=f"hf:{folder}")
    opened = open_for_training(config)
    result = train(config, scenes / "test", tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/history.jsonl").open()]
    assert losses[-1] < losses[0]
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["model"]
    for tower, encoder in zip(("image", "text"), opened.encoders, strict=True):
        moved = [
            name
            for name, weight in encoder.state_dict().items()
            if not torch.equal(state[f"{tower}_tower.backbone.{name}"], weight)
        ]
        assert bool(moved) == (tower != frozen), tower
    assert Bundle(result.bundle).config.model["source"]["name"] == f"hf:{folder}"


def test_temperature_and_sizes_are_the_models_own(tmp_path):
    folder = HUGGINGFACE["clip"](tmp_path / "model")
    opened = open_for_training(load_config(None, source=f"hf:{folder}"))
    assert opened.config.image.size == 32
    assert opened.config.temperature == pytest.approx(1 / 14.2857, rel=0.05)
    chosen = open_for_training(load_config(None, ["temperature=0.5"], source=f"hf:{folder}"))
    assert chosen.config.temperature == 0.5


def test_what_cannot_be_tuned_is_said(tmp_path):
    with pytest.raises(TrainingError, match="only dual encoders of transformers are fine-tuned"):
        open_for_training(load_config(None, source="open_clip:ViT-B-32@x"))
    with pytest.raises(TrainingError, match="nothing would train; unfreeze one"):
        load_config(None, ["image.freeze=true", "text.freeze=true"], source="hf:x")
