"""The loss on validation images: in the history, and as what an epoch is chosen by."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from vireo_client.bundle import Bundle
from vireo_training.evaluation.metrics import WAYS
from vireo_training.evaluation.plots import plot_training, read_history
from vireo_training.loop import run
from vireo_training.loop.loss import contrastive_loss
from vireo_training.loop.progress import Progress
from vireo_training.loop.train import train
from vireo_training.loop.validate import ValidationSet, validate
from vireo_training.presets import load_config

SETTINGS = ["epochs=4", "batch_size=8", "text.layers=1", "text.segmenter=none", "text.width=16",
            "image.size=32", "image.resize=32", "validation_fraction=0.2", "test_fraction=0",
            "precision=fp32", "schedule=constant", "warmup_epochs=0"]  # fmt: skip


@pytest.fixture
def given_losses(monkeypatch):
    """Gives validation losses of its own, one an epoch, beside the real metrics."""

    def give(*losses):
        left = list(losses)

        def validated(*arguments):
            return {**validate(*arguments), "validation_loss": left.pop(0)}

        monkeypatch.setattr(run, "validate", validated)

    return give


def test_the_loss_is_that_of_training_over_validation_batches(scenes, tmp_path, monkeypatch):
    seen = []

    def spy(model, data, config):
        result = validate(model, data, config)
        assert isinstance(data, ValidationSet)
        with torch.no_grad():
            pixels = torch.from_numpy(np.array(data.images))
            images, written = model.image_tower(pixels), data.captions.variants[0]
            firsts = [written[int(row)] for row in data.captions.starts[:-1]]
            texts = torch.cat(
                [model.text_tower(torch.from_numpy(np.array(row))[None]) for row in firsts]
            )
        order = np.random.default_rng(config.seed).permutation(len(images))
        parts = np.array_split(order, -(-len(order) // data.batch_size))
        losses = [
            float(contrastive_loss(images[p], texts[p], torch.arange(len(p)), model.logit_scale,
                  torch.from_numpy(data.captions.texts[data.captions.starts[p]]))) * len(p)
            for p in parts
        ]  # fmt: skip
        seen.append((result["validation_loss"], sum(losses) / len(order)))
        return result

    monkeypatch.setattr(run, "validate", spy)
    settings = [*SETTINGS, "epochs=2", "captions_per_picture=1"]
    result = train(load_config("scenes", settings), scenes / "test", tmp_path)
    assert len(seen) == 2
    for mine, by_hand in seen:
        assert mine == pytest.approx(by_hand, abs=1e-5)
    history = read_history(tmp_path / "history.jsonl")
    assert [line["validation_loss"] for line in history] == [mine for mine, _ in seen]
    assert Bundle(result.bundle).config.metrics["validation_loss"] in [mine for mine, _ in seen]
    plot_training(history, tmp_path / "curves.png")


@pytest.mark.parametrize(("monitor", "best"), [("loss", 2), ("mean_reciprocal_rank", None)])
def test_the_best_epoch_is_chosen_by_what_is_monitored(
    scenes, tmp_path, given_losses, monitor, best
):
    given_losses(3.0, 1.0, 2.0, 2.5)
    config = load_config("scenes", [*SETTINGS, f"monitor={monitor}", "patience=2"])
    train(config, scenes / "test", tmp_path)
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").open()]
    ranks = [sum(line[way]["mean_reciprocal_rank"] for way in WAYS) for line in history]
    kept = Bundle(tmp_path / "bundle").config.provenance["best_epoch"]
    assert kept == (best or 1 + int(np.argmax(ranks)))
    if monitor == "loss":
        assert len(history) == 4  # two epochs after the best


def test_a_plateau_is_one_of_the_loss(scenes, tmp_path, given_losses):
    given_losses(3.0, 4.0, 5.0, 6.0)
    settings = [*SETTINGS, "monitor=loss", "schedule=plateau", "plateau_patience=0"]
    train(load_config("scenes", settings), scenes / "test", tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["schedule"]["_reduction"] == 0.5**3


def test_without_validation_the_loss_chooses_nothing():
    progress = Progress(monitor="loss")
    for _ in range(2):
        progress.count(1.0, 1.0, 0.0)
        assert progress.end_epoch({})[1]
