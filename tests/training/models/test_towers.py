"""Heads, freezing, layers, and the text backbones beside plain computations of the same."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from support.presets import ROBERTA, shrink
from torch import nn
from vireo_client.errors import TrainingError
from vireo_training.config import HeadConfig, ImageTowerConfig, TextTowerConfig
from vireo_training.loop.optimiser import parameter_groups
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.models.heads import make_head
from vireo_training.models.image_tower import ImageTower
from vireo_training.models.resolve import resolve
from vireo_training.models.text_towers import TextTower
from vireo_training.models.text_towers.transformer import sinusoidal_positions
from vireo_training.models.tower import Tower
from vireo_training.presets import load_config

PAD, VOCAB = 1, 60
KINDS = {
    "transformer-cls": {"kind": "transformer", "pool": "cls"},
    "transformer-mean": {"kind": "transformer", "pool": "mean", "positions": "sinusoidal"},
    "transformer-max": {"kind": "transformer", "pool": "max"},
    "lstm-last": {"kind": "lstm", "pool": "last", "hidden": 6},
    "lstm-mean": {"kind": "lstm", "pool": "mean"},
    "lstm-max": {"kind": "lstm", "pool": "max"},
    "bag-of-words": {"kind": "bag-of-words"},
    "roberta-cls": {"kind": "huggingface", "pool": "cls", "architecture": ROBERTA},
    "roberta-mean": {"kind": "huggingface", "pool": "mean", "architecture": ROBERTA},
    "roberta-max": {"kind": "huggingface", "pool": "max", "architecture": ROBERTA},
    "bert": {"kind": "huggingface", "architecture": ROBERTA | {"model_type": "bert"}},
    "distilbert": {"kind": "huggingface", "architecture": {
        "model_type": "distilbert", "vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2,
        "hidden_dim": 32, "max_position_embeddings": 32, "pad_token_id": 1}},
    "mpnet": {"kind": "huggingface", "architecture": ROBERTA | {"model_type": "mpnet"}},
    "deberta": {"kind": "huggingface", "architecture": ROBERTA | {"model_type": "deberta-v2"}},
}  # fmt: skip
SMALL = {"width": 16, "layers": 2, "heads": 2, "buckets": (8, 16, 32)}
IMAGE_TOWERS = ("test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_mambaout")


def text_tower(kind, **settings):
    torch.manual_seed(0)
    config = TextTowerConfig(**{**SMALL, **KINDS[kind], **settings})
    tower = TextTower(config, VOCAB, PAD, 8, load=True)
    with torch.no_grad():  # nothing is to stay 0 by chance
        for parameter in tower.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return tower.eval()


def rows(*texts, length=8, dtype=torch.int32):
    ids = torch.full((len(texts), length), PAD, dtype=dtype)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    return ids


TEXTS = ((0, 2), (0, 7, 9, 2), (0, 11, 12, 13, 14, 15, 16, 2))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_texts_embedding_depends_on_its_tokens_alone(kind):
    tower = text_tower(kind)
    together = tower(rows(*TEXTS))
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)
    for ids in (rows(*TEXTS, length=32), rows(*TEXTS, dtype=torch.int64)):
        assert torch.allclose(tower(ids), together, atol=1e-5)
    for row, text in enumerate(TEXTS):
        alone = tower(torch.tensor([text], dtype=torch.int32))
        assert torch.allclose(alone[0], together[row], atol=1e-5)
    if kind != "bag-of-words":
        assert not torch.allclose(tower(rows((0, 9, 7, 2))), together[1], atol=1e-3)
    assert torch.isfinite(tower(rows((), ()))).all()


def test_a_transformer_attends_alike_in_training_and_evaluation():
    """In bf16 training takes another kernel."""
    tower = text_tower("transformer-cls", dropout=0.0)
    found = []
    for training in (True, False):
        tower.train(training).zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = tower(rows(*TEXTS))
        out[:, 0].sum().backward()
        found.append([out, *(p.grad for p in tower.parameters())])
    assert all(torch.allclose(a, b, atol=2e-2) for a, b in zip(*found, strict=True))


@torch.inference_mode()
def test_the_lstm_reads_each_text_in_both_directions_to_its_end():
    tower = text_tower("lstm-last")
    backbone = tower.backbone
    features = tower.features(rows(*TEXTS))
    for row, text in enumerate(TEXTS):
        _, (states, _) = backbone.lstm(backbone.tokens(torch.tensor([text])))
        last = torch.cat([states[-2], states[-1]], dim=1)  # forward and backward of the top layer
        assert torch.allclose(backbone.norm(last)[0], features[row], atol=1e-6)


@torch.inference_mode()
def test_pooling_leaves_padding_out():
    tower = text_tower("bag-of-words")
    mean = tower.backbone.tokens.weight[[0, 7, 9, 2]].mean(dim=0)
    assert torch.allclose(tower.features(rows((0, 7, 9, 2)))[0], mean, atol=1e-6)
    for kind, reduce in (("roberta-mean", torch.mean), ("roberta-max", torch.amax)):
        tower = text_tower(kind)
        states = tower.backbone.model(torch.tensor([TEXTS[1]])).last_hidden_state[0]
        assert torch.allclose(tower.features(rows(*TEXTS))[1], reduce(states, dim=0), atol=1e-5)


def test_sinusoidal_positions_are_those_of_the_paper():
    table = sinusoidal_positions(10, 6)
    assert table.shape == (10, 6)
    for position, column in ((0, 0), (3, 0), (3, 1), (7, 4), (9, 5)):
        angle = position / 10_000 ** ((column - column % 2) / 6)
        expected = math.cos(angle) if column % 2 else math.sin(angle)
        assert table[position, column] == pytest.approx(expected, abs=1e-5)
    assert sinusoidal_positions(4, 5).shape == (4, 5)
    names = dict(text_tower("transformer-mean").named_parameters())
    assert "backbone.positions" not in names


@pytest.mark.parametrize("kind", KINDS)
def test_text_layers_hold_every_parameter_once_from_the_bottom_up(kind):
    tower = text_tower(kind)
    layers = tower.layers()
    flat = [id(p) for layer in layers for p in layer]
    trainable = [id(p) for p in tower.backbone.parameters() if p.requires_grad]
    assert sorted(flat) == sorted(trainable)
    assert len(layers) == (1 if kind == "bag-of-words" else 3)
    names = {id(p): name for name, p in tower.backbone.named_parameters()}
    for depth, layer in enumerate(layers):
        for parameter in layer:
            parts = names[id(parameter)].replace("_l0", ".0").replace("_l1", ".1").split(".")
            index = next((int(part.split("_")[0]) for part in parts if part[0].isdigit()), None)
            if index is not None:
                assert depth == index + 1
    embedding = next(n for n in names.values() if "tokens" in n or "word_embeddings" in n)
    assert embedding in {names[id(p)] for p in layers[0]}


@pytest.mark.parametrize("name", IMAGE_TOWERS)
def test_image_layers_hold_every_parameter_once_from_the_bottom_up(name):
    tower = ImageTower(ImageTowerConfig(name=name, size=64), 8, load=True)
    layers = tower.layers()
    flat = [id(p) for layer in layers for p in layer]
    assert sorted(flat) == sorted(id(p) for p in tower.backbone.parameters())
    assert len(layers) >= 3
    first = next(tower.backbone.parameters())
    assert id(first) in {id(p) for p in layers[0]}


def test_heads_are_built_as_the_settings_say():
    torch.manual_seed(0)
    x = torch.randn(5, 12)
    linear = make_head(HeadConfig(kind="linear", dropout=0.5), 12, 8).eval()
    assert torch.equal(linear(x), x @ linear[-1].weight.T)
    unit = make_head(HeadConfig(kind="none", unit_features=True), 12, 12)
    assert torch.allclose(unit(x), x / x.norm(dim=1, keepdim=True))
    mlp = make_head(HeadConfig(kind="mlp", hidden=20, dropout=0.3), 12, 8)
    assert [type(m) for m in mlp] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.Linear]
    assert (mlp[0].out_features, mlp[3].p, mlp(x).shape) == (20, 0.3, (5, 8))
    head = make_head(HeadConfig(), 12, 8)
    projected = head.input(x)
    expected = F.layer_norm(projected + head.hidden(F.gelu(projected)), (8,))
    assert torch.allclose(head(x), expected, atol=1e-6)


def model_of(preset="mini-lstm", *overrides):
    torch.manual_seed(0)
    config = resolve(load_config(preset, [*shrink(preset), *overrides]))
    return DualEncoder(config, VOCAB, PAD, load=True), config


def step(model, groups, lr=0.1):
    size = 64
    pixels = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    image, text = model(pixels, rows(*TEXTS, (0, 5, 2)))
    F.cross_entropy(model.logit_scale * text @ image.T, torch.arange(4)).backward()
    torch.optim.AdamW(groups, lr=lr).step()


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return [n for n, value in module.state_dict().items() if not torch.equal(before[n], value)]


@pytest.fixture
def weights(tmp_path):
    from safetensors.torch import save_file

    tower = ImageTower(ImageTowerConfig(name="test_resnet", size=64), 8, load=True)
    save_file(tower.backbone.state_dict(), tmp_path / "w.safetensors")
    return tmp_path / "w.safetensors"


def test_a_frozen_tower_stays_until_it_is_unfrozen(weights):
    frozen = [f"image.weights={weights}", "image.freeze=true", "image.unfreeze_after=1"]
    model, config = model_of("mini-lstm", *frozen)
    model.train()
    groups = parameter_groups(model, config)
    tower = model.image_tower
    in_groups = {id(p) for group in groups for p in group["params"]}
    assert {id(p) for p in tower.backbone.parameters()} <= in_groups

    backbone, head = snapshot(tower.backbone), snapshot(tower.head)
    step(model, groups)
    assert not changed(backbone, tower.backbone)  # weights and batch statistics
    assert changed(head, tower.head)
    assert all(p.grad is None for p in tower.backbone.parameters())

    averaged = copy.deepcopy(model)
    for one in (model, averaged):
        one.image_tower.unfreeze()
        assert all(module.training for module in one.image_tower.modules())
        assert all(p.requires_grad for p in one.image_tower.backbone.parameters())
    step(model, groups)
    names = changed(backbone, tower.backbone)
    assert "conv1.0.weight" in names or "conv1.weight" in names
    assert any("running_mean" in name for name in names)


def test_a_tower_frozen_for_good_is_left_to_no_optimiser(weights):
    model, config = model_of("mini-lstm", f"image.weights={weights}", "image.freeze=true")
    learning = {id(p) for group in parameter_groups(model, config) for p in group["params"]}
    assert not {id(p) for p in model.image_tower.backbone.parameters()} & learning
    assert learning == {id(p) for p in model.parameters() if p.requires_grad}


def test_parameters_that_never_train_stay_out_after_unfreezing():
    class Plain(Tower):
        def _encode(self, inputs):
            return self.backbone(inputs)

        def _backbone_layers(self):
            return [[self.backbone.weight, self.backbone.bias]]

    backbone = nn.Linear(4, 4)
    backbone.bias.requires_grad_(False)  # as a fixed position table
    tower = Plain(backbone, nn.Linear(4, 2), frozen=True)
    assert not any(p.requires_grad for p in backbone.parameters())
    tower.unfreeze()
    assert (backbone.weight.requires_grad, backbone.bias.requires_grad) == (True, False)
    (layer,) = tower.layers()
    assert [p is backbone.weight for p in layer] == [True]


@pytest.mark.parametrize("preset", ["mini-transformer", "phobert-efficientnet", "vireo-base"])
def test_each_layer_learns_slower_than_the_one_above(preset):
    model, config = model_of(preset, "image.layer_decay=0.5", "text.layer_decay=0.8",
                             "lr_image=0.01", "lr_text=0.02", "lr_head=0.03")  # fmt: skip
    groups = parameter_groups(model, config)
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rate) == sum(len(group["params"]) for group in groups)
    for tower, top, decay in ((model.image_tower, 0.01, 0.5), (model.text_tower, 0.02, 0.8)):
        layers = tower.layers()
        assert len(layers) >= 3
        for depth, layer in enumerate(layers):
            expected = top * decay ** (len(layers) - 1 - depth)
            assert all(rate[id(p)] == pytest.approx(expected) for p in layer)
        assert {rate[id(p)] for p in tower.head.parameters()} == {0.03}


def test_norms_biases_and_scalars_do_not_decay():
    model, config = model_of("vireo-base", "weight_decay=0.1", "loss=siglip")
    groups = parameter_groups(model, config)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert set(decays) == {id(p) for p in model.parameters()}
    assert {decays[id(p)] for p in model.parameters() if p.ndim < 2} == {0.0}
    assert {decays[id(p)] for p in model.parameters() if p.ndim > 1} == {0.1}


@pytest.mark.parametrize("kind", ["transformer-cls", "roberta-cls"])
def test_checkpointing_gives_the_same_gradients(kind):
    gradients = []
    for checkpointing in (False, True):
        tower = text_tower(kind, checkpointing=checkpointing, dropout=0.0, architecture={
            **KINDS[kind].get("architecture", {}), "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0} if kind == "roberta-cls" else {})  # fmt: skip
        tower.train()
        saved = []
        hooks = torch.autograd.graph.saved_tensors_hooks
        with hooks(lambda x, s=saved: s.append(1) or x, lambda x: x):
            out = tower(rows(*TEXTS))
        out[:, 0].sum().backward()
        gradients.append([p.grad for p in tower.parameters()])
        gradients[-1].append(len(saved))
    (*plain, kept), (*again, kept_less) = gradients
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(plain, again, strict=True))
    assert kept_less < kept


def test_a_tower_without_checkpointing_is_an_error():
    for kind in ("lstm-last", "bag-of-words"):
        with pytest.raises(TrainingError, match=r"text\.checkpointing=false"):
            text_tower(kind, checkpointing=True)
    with pytest.raises(TrainingError, match=r"image\.checkpointing=false"):
        # One of the models that timm never taught it.
        ImageTower(ImageTowerConfig(name="dla46_c", checkpointing=True), 8, load=True)


def test_cached_features_of_a_frozen_tower_give_the_same_embeddings():
    model, config = model_of("mini-lstm")
    model.eval()
    pixels = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    ids = rows(*TEXTS)
    with torch.inference_mode():
        image, text = model(pixels, ids)
        features = model.image_tower.features(pixels)
        again, _ = model(features, ids)
        # The tower normalises values between 0 and 1 as its data config says.
        statistics = torch.tensor([config.image.mean, config.image.std])
        mean, std = statistics.view(2, 1, 3, 1, 1)
        expected = model.image_tower.backbone((pixels / 255 - mean) / std)
    assert torch.equal(image, again)
    assert torch.allclose(features, expected, atol=1e-4)
    assert text.dtype == image.dtype == torch.float32
    assert torch.allclose(image.norm(dim=1), torch.ones(3), atol=1e-5)


def test_the_temperature_learns_down_to_its_minimum_or_stays():
    model, _ = model_of("mini-lstm", "temperature=0.05", "min_temperature=0.02")
    assert model.logit_scale.item() == pytest.approx(20)
    assert model.log_logit_scale.requires_grad
    with torch.no_grad():
        model.log_logit_scale.fill_(10.0)
    assert model.logit_scale.item() == pytest.approx(50)
    assert model.logit_bias is None

    fixed, config = model_of("phobert-resnet50", "min_temperature=0.02", "temperature=0.01")
    assert fixed.logit_scale.item() == pytest.approx(100)
    assert not fixed.log_logit_scale.requires_grad
    learning = {id(p) for group in parameter_groups(fixed, config) for p in group["params"]}
    assert id(fixed.log_logit_scale) not in learning

    sigmoid, config = model_of("mini-lstm", "loss=siglip", "siglip_bias=-7")
    assert sigmoid.logit_bias.item() == -7
    rates = {id(p): g["lr"] for g in parameter_groups(sigmoid, config) for p in g["params"]}
    assert rates[id(sigmoid.logit_bias)] == rates[id(sigmoid.log_logit_scale)] == config.lr_head


@pytest.mark.parametrize("kind", KINDS)
def test_towers_train_in_bfloat16(kind):
    tower = text_tower(kind).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = tower(rows(*TEXTS))
    out[:, 0].sum().backward()
    assert out.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in tower.parameters() if p.grad is not None)
