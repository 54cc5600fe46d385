"""Encoders saved alone, and bundles from checkpoints as their projects' own code writes them."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import typer
from support.presets import ROBERTA, shrink
from torch import nn
from typer.testing import CliRunner
from vireo_client.bundle import Bundle
from vireo_client.errors import BundleError, TrainingError
from vireo_training.commands.encoders import encoders, import_
from vireo_training.loop.train import train
from vireo_training.models.bundle_writer import load_model
from vireo_training.models.encoder_files import import_checkpoint
from vireo_training.presets import load_config

APP = typer.Typer()
APP.command("encoders")(encoders)
APP.command("import")(import_)
TINY = ["epochs=1", "batch_size=8", "precision=fp32", "validation_fraction=0", "test_fraction=0"]


@pytest.mark.parametrize("preset", ["mini-lstm", "phobert-convnextv2"])
def test_encoders_load_back_by_the_settings_that_are_printed(scenes, tmp_path, preset):
    config = load_config(preset, [*shrink(preset), *TINY])
    bundle = train(config, scenes / "test", tmp_path / "run").bundle
    done = CliRunner().invoke(APP, ["encoders", str(bundle), "--out", str(tmp_path / "e")])
    assert done.exit_code == 0, done.output
    settings = done.stdout.partition("load: ")[2].split("--set ")[1:]
    again = load_config(preset, [*shrink(preset), *TINY, *(s.strip() for s in settings),
                                 *(f"lr_{part}=0" for part in ("image", "text", "head")),
                                 "weight_decay=0"])  # fmt: skip
    copy = train(again, scenes / "test", tmp_path / "copy").bundle
    ours, theirs = (load_model(Bundle(each)) for each in (bundle, copy))
    towers = ["image_tower"] + (["text_tower"] if preset.startswith("phobert") else [])
    for tower in towers:
        for name, weight in getattr(ours, tower).backbone.named_parameters():
            assert torch.equal(weight, getattr(theirs, tower).backbone.get_parameter(name)), name
    tokenizers = {Bundle(each).tokenizer_file.read_text() for each in (bundle, copy)}
    assert len(tokenizers) == 1


class _Head(nn.Module):
    """The projection head of PhoCLIP and End-to-End Image Retrieval, by their names."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, dim)
        self.fc = nn.Linear(dim, dim)
        self.layer_norm = nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        projected = self.projection(x)
        return self.layer_norm(self.fc(F.gelu(projected)) + projected)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint with the pooler that only theirs has, and the function that it computes."""
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    image = timm.create_model("test_resnet", num_classes=0, global_pool="avg").eval()
    text = RobertaModel(RobertaConfig(**ROBERTA)).eval()
    heads = _Head(image.num_features, 16), _Head(16, 16)
    model = nn.ModuleDict({
        "image_encoder": nn.ModuleDict({"model": image}),
        "text_encoder": nn.ModuleDict({"model": text}),
        "image_projection": heads[0], "text_projection": heads[1],
    })  # fmt: skip
    torch.save(model.state_dict(), tmp_path / "best.pt")

    @torch.inference_mode()
    def run(pixels, ids):
        mean = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
        std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
        states = text(ids, attention_mask=(ids != 1).long()).last_hidden_state[:, 0]
        return heads[0](image((pixels / 255 - mean) / std)), heads[1](states)

    return tmp_path / "best.pt", run


@pytest.fixture
def settings(scenes, tmp_path):
    """Settings of the tiny encoders, with a trained tokenizer in place of PhoBERT's."""
    small = shrink("phobert-resnet50")
    config = load_config("phobert-resnet50", [*small, *TINY])
    folder = train(config, scenes / "test", tmp_path / "tok").bundle
    return [*small, f"text.tokenizer={folder}"]


def test_a_published_checkpoint_answers_as_its_own_code(checkpoint, settings, tmp_path):
    file, run = checkpoint
    overrides = [part for each in settings for part in ("--set", each)]
    done = CliRunner().invoke(APP, ["import", str(file), "--preset", "phobert-resnet50",
                                    "--out", str(tmp_path / "b"), *overrides])  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    bundle = Bundle(tmp_path / "b")
    assert (bundle.config.image.fit, bundle.config.image.size) == ("squash", 224)
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    ids = torch.tensor([[0, 5, 7, 2, 1, 1], [0, 9, 8, 4, 6, 2]])
    model = load_model(bundle)
    with torch.inference_mode():
        mine = model(pixels, ids)
    for ours, theirs in zip(mine, run(pixels.float(), ids), strict=True):
        assert np.allclose(ours, F.normalize(theirs, dim=-1), atol=2e-5)


def test_what_is_no_known_checkpoint_is_said(checkpoint, settings, tmp_path):
    config = load_config("phobert-resnet50", settings)
    torch.save({"model_state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match=r"other\.pth: of an unknown layout; known is best\.pt"):
        import_checkpoint(tmp_path / "other.pth", config, tmp_path / "b")
    wrong = load_config("phobert-resnet50", [*settings, "embedding_dim=24"])
    with pytest.raises(TrainingError, match=r"does not fit test_resnet with .*of another shape"):
        import_checkpoint(checkpoint[0], wrong, tmp_path / "b")


def test_halves_of_one_model_are_not_saved_apart(scenes, tmp_path):
    from support.tiny_models import HUGGINGFACE
    from vireo_training.models.encoder_files import save_encoders

    folder = HUGGINGFACE["clip"](tmp_path / "model")
    bundle = train(load_config(None, TINY, source=f"hf:{folder}"), scenes / "test", tmp_path / "r")
    with pytest.raises(BundleError, match="whose halves are one model"):
        save_encoders(Bundle(bundle.bundle), tmp_path / "e")
