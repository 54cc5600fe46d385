"""Settings that come with pretrained models, and the errors where their files are missing."""

import json
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.presets import ROBERTA, shrink
from support.text_models import write_phobert
from vireo_client.errors import TokenizerError, TrainingError
from vireo_training.config import ImageTowerConfig, TextTowerConfig
from vireo_training.models.dual_encoder import DualEncoder, model_settings
from vireo_training.models.hub import offline
from vireo_training.models.image_tower import ImageTower
from vireo_training.models.resolve import resolve, resolve_image
from vireo_training.models.text_towers import TextTower
from vireo_training.models.text_towers.huggingface import resolve_architecture
from vireo_training.models.tokenizer import make_tokenizer
from vireo_training.presets import load_config

CAPTIONS = ["con chó chạy trên bãi_cỏ", "Con chó ngủ", "xe_hơi trên bãi_cỏ"]


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Notes every attempt to reach another machine, and gives an empty cache."""
    attempts = []

    def refuse(*arguments, **_):
        attempts.append(arguments)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return attempts


@pytest.fixture
def phobert(tmp_path):
    """A folder as PhoBERT's: a RoBERTa model with a pooler, `vocab.txt` and `bpe.codes`."""
    from vireo_training.models.torchvision_ops import ensure_torchvision

    ensure_torchvision()
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(3)
    folder = write_phobert(tmp_path / "phobert")
    RobertaModel(RobertaConfig(**ROBERTA)).save_pretrained(folder)
    return folder


def text_config(folder, **settings):
    base = {"kind": "huggingface", "name": str(folder), "weights": "pretrained",
            "tokenizer": "pretrained", "buckets": (8, 16, 32), "segmenter": "none"}  # fmt: skip
    return resolve_architecture(TextTowerConfig(**{**base, **settings}))


def test_timms_data_config_fills_settings_that_are_not_given():
    image = resolve_image(ImageTowerConfig(name="resnet50.a1_in1k"))
    assert (image.size, image.resize, image.interpolation) == (224, 235, "bicubic")
    assert image.mean == pytest.approx((0.485, 0.456, 0.406))
    given = resolve_image(ImageTowerConfig(name="resnet50.a1_in1k", size=128, mean=(0.5, 0.5, 0.5)))
    assert (given.size, given.resize, given.mean) == (128, 134, (0.5, 0.5, 0.5))
    assert given.kwargs == {}
    assert resolve_image(given) == given


def test_a_model_of_one_size_gets_another():
    name = "vit_small_patch14_dinov2.lvd142m"
    assert resolve_image(ImageTowerConfig(name=name)).size == 518
    assert resolve_image(ImageTowerConfig(name=name)).kwargs == {}
    small = resolve_image(ImageTowerConfig(name=name, size=224))
    assert (small.resize, small.kwargs) == (224, {"img_size": 224})
    other_way = resolve_image(ImageTowerConfig(name=name, kwargs={"img_size": 70}))
    assert (other_way.size, other_way.kwargs) == (70, {"img_size": 70})
    tower = ImageTower(ImageTowerConfig(name="test_vit", size=64), 8, load=True).eval()
    assert tower(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 8)
    kwargs = {"img_size": 56, "embed_dim": 16, "depth": 1, "num_heads": 2}
    with pytest.raises(TrainingError, match="does not take images of 70 x 70"):
        ImageTower(ImageTowerConfig(name=name, size=70, kwargs=kwargs), 8, load=True)


def test_the_config_beside_the_weights_wins_over_timms(tmp_path):
    tower = ImageTower(ImageTowerConfig(name="test_resnet"), 8, load=True)
    save_file(tower.backbone.state_dict(), tmp_path / "model.safetensors")
    written = {"pretrained_cfg": {"input_size": [3, 96, 96], "crop_pct": 0.75, "mean": [0.1] * 3,
                                  "interpolation": "bilinear"}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(written))
    image = resolve_image(ImageTowerConfig(name="test_resnet", weights=str(tmp_path)))
    assert (image.size, image.resize, image.interpolation) == (96, 128, "bilinear")
    assert image.mean == (0.1, 0.1, 0.1)
    assert image.std != (0.1, 0.1, 0.1)  # not written there: timm's
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(TrainingError, match=r"config\.json: is not a timm model's config"):
        resolve_image(ImageTowerConfig(name="test_resnet", weights=str(tmp_path)))


def test_position_tables_of_another_size_are_resampled(tmp_path):
    large = ImageTower(ImageTowerConfig(name="test_vit", size=160), 8, load=True)
    save_file(large.backbone.state_dict(), tmp_path / "model.safetensors")
    config = ImageTowerConfig(name="test_vit", size=96, weights=str(tmp_path))
    small = ImageTower(config, 8, load=True)
    assert small.backbone.pos_embed.shape[1] < large.backbone.pos_embed.shape[1]
    patches = [tower.backbone.patch_embed.proj.weight for tower in (small, large)]
    assert torch.equal(*patches)


COMPLETE = {
    "size": 32, "resize": 32, "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.5,) * 3,
}  # fmt: skip
"""Nothing is left to look up in timm's registry, as in a bundle."""


class _Code:
    """Runs when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("setting", ["weights", "kwargs"])
def test_weights_that_hold_code_run_nothing(setting, tmp_path):
    run, file = tmp_path / "run", tmp_path / "weights.pth"
    torch.save({"state_dict": _Code(run)}, file)
    given = (
        {"weights": str(file)}
        if setting == "weights"
        else {"kwargs": {"checkpoint_path": str(file)}}
    )
    with pytest.raises(TrainingError):
        ImageTower(ImageTowerConfig(name="test_resnet", **COMPLETE, **given), 8, load=True)
    assert not run.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "resnet50.nope"}, "Invalid pretrained tag"),
        ({"name": "hf-hub:timm/resnet50"}, r"timm has no such model.*timm\.list_models"),
        ({"name": "test_resnet", "kwargs": {"wings": 2}}, r"cannot be built.*image\.kwargs"),
        ({"name": "test_resnet", "kwargs": {"checkpoint_path": "a"}}, r"image\.kwargs\.checkpoint"),
        ({"name": "test_resnet", "kwargs": {"pretrained_cfg": {"url": "a"}}}, "pretrained_cfg is"),
        ({"name": "test_resnet", "kwargs": {"cache_dir": "/a"}}, r"cache_dir is no setting"),
        ({"name": "hf-hub:a/b", **COMPLETE}, "timm has no such model"),
        ({"name": "local-dir:/a", **COMPLETE}, "timm has no such model"),
        ({"name": "test_resnet", "weights": "hf-hub:a/b"}, r"a/b: cannot be had.*VIREO_OFFLINE"),
        ({"name": "test_resnet", "weights": "timm"}, r"test_resnet.*VIREO_OFFLINE.*weights=null"),
    ],
)
def test_an_image_tower_that_cannot_be_had_is_an_error(settings, message, no_network):
    with pytest.raises(TrainingError, match=message):
        ImageTower(ImageTowerConfig(**settings), 8, load=True)
    assert not no_network


def test_without_a_network_timms_weights_come_from_the_cache(tmp_path, monkeypatch, no_network):
    import timm

    torch.manual_seed(5)
    pretrained = timm.create_model("test_resnet")
    file = tmp_path / "model.safetensors"
    save_file(pretrained.state_dict(), file)
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repo, name: str(file) if (repo, name) == (hub_id, file.name) else None,
    )
    hub_id = timm.models.get_pretrained_cfg("test_resnet").hf_hub_id
    tower = ImageTower(ImageTowerConfig(name="test_resnet", weights="timm"), 8, load=True)
    state = tower.backbone.state_dict()
    assert all(torch.equal(state[name], pretrained.state_dict()[name]) for name in state)
    assert not no_network


def test_a_local_encoder_is_loaded_whole(phobert, no_network):
    from transformers import RobertaModel

    config = text_config(phobert)
    tower = TextTower(config, 23, 1, 8, load=True).eval()
    reference = RobertaModel.from_pretrained(phobert).eval()
    ids = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1]])
    with torch.inference_mode():
        states = reference(ids, attention_mask=(ids != 1).long()).last_hidden_state
        assert torch.allclose(tower.features(ids.int()), states[:, 0], atol=1e-5)
    assert not [name for name, _ in tower.named_parameters() if "pooler" in name]
    assert not no_network


def test_the_encoders_architecture_goes_into_the_config_and_suffices(phobert, tmp_path):
    config = load_config("phobert-resnet50", [
        *shrink("phobert-resnet50"), f"text.name={phobert}", "text.weights=pretrained",
        "text.tokenizer=pretrained"])  # fmt: skip
    resolved = resolve(config)
    assert resolved.text.architecture["hidden_size"] == ROBERTA["hidden_size"]
    assert "_name_or_path" not in resolved.text.architecture
    assert str(tmp_path) not in json.dumps(resolved.text.architecture)
    model = DualEncoder(resolved, 23, 1, load=True)
    phobert.rename(tmp_path / "gone")
    again = type(config).model_validate(json.loads(json.dumps(model_settings(resolved))))
    DualEncoder(again, 23, 1, load=False).load_state_dict(model.state_dict())


def test_the_pretrained_models_config_wins_over_the_presets(phobert):
    config = text_config(phobert, architecture=ROBERTA | {"hidden_size": 64})
    assert config.architecture["hidden_size"] == ROBERTA["hidden_size"]
    random = text_config(phobert, architecture=ROBERTA | {"hidden_size": 64}, weights=None)
    assert random.architecture["hidden_size"] == 64
    assert text_config(phobert, weights=None).architecture["hidden_size"] == 16


@pytest.mark.parametrize("name", ["vinai/phobert-base", "/no/such/folder"])
def test_an_encoder_that_is_nowhere_is_an_error_without_a_network(name, no_network):
    assert offline()
    with pytest.raises(TrainingError) as caught:
        text_config(name)
    for part in (name, "VIREO_OFFLINE is set", "--set text.weights=null --set text.tokenizer=bpe"):
        assert part in str(caught.value)
    config = TextTowerConfig(kind="huggingface", name=name, weights="pretrained",
                             architecture=ROBERTA, tokenizer="pretrained")  # fmt: skip
    with pytest.raises(TrainingError, match=r"cannot be had.*text\.weights=null"):
        TextTower(config, 23, 1, 8, load=True)
    with pytest.raises(TrainingError, match=r"cannot be had.*text\.tokenizer=bpe"):
        make_tokenizer(config, CAPTIONS)
    assert not no_network


def test_without_a_network_an_encoder_comes_from_the_cache(phobert, tmp_path, no_network):
    repository = tmp_path / "cache" / "models--vinai--phobert-base"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    (repository / "snapshots").mkdir()
    phobert.rename(repository / "snapshots" / ("a" * 40))
    config = text_config("vinai/phobert-base")
    assert config.architecture["hidden_size"] == ROBERTA["hidden_size"]
    tokenizer = make_tokenizer(config, CAPTIONS)
    assert TextTower(config, tokenizer.vocab_size, tokenizer.pad_id, 8, load=True)
    assert not no_network


def test_weights_that_lack_something_do_not_train_from_noise(phobert):
    from safetensors.torch import load_file

    state = load_file(phobert / "model.safetensors")
    state = {name: value for name, value in state.items() if "layer.1." not in name}
    save_file(state, phobert / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match=r"lack \d+ tensors \(first: encoder\.layer\.1\."):
        TextTower(text_config(phobert), 23, 1, 8, load=True)


@pytest.mark.parametrize(
    ("changes", "vocab_size", "pad_id", "buckets", "message"),
    [
        ({}, 401, 1, (8, 32), "has 401 ids, the text encoder embeds 400"),
        ({}, 23, 0, (8, 32), "pads with id 0, the text encoder with 1"),
        ({}, 23, 1, (8, 33), r"longest bucket, 33 tokens.*34 rows"),
        ({"model_type": "bert"}, 23, 1, (8, 35), r"longest bucket, 35 tokens.*34 rows"),
        ({"model_type": "perceptron"}, 23, 1, (8,), "not a model of transformers"),
        ({"model_type": "t5"}, 23, 1, (8,), "'t5' has a decoder"),
        ({"num_attention_heads": 5}, 23, 1, (8,), "cannot be built"),
    ],
)
def test_an_encoder_that_does_not_fit_is_an_error(changes, vocab_size, pad_id, buckets, message):
    config = TextTowerConfig(kind="huggingface", architecture=ROBERTA | changes, buckets=buckets)
    with pytest.raises(TrainingError, match=message):
        TextTower(config, vocab_size, pad_id, 8, load=True)


def test_the_longest_text_that_fits_is_taken():
    for changes, longest in (({}, 32), ({"model_type": "bert"}, 34)):
        settings = {"architecture": ROBERTA | changes, "buckets": (8, longest)}
        TextTower(TextTowerConfig(kind="huggingface", **settings), 400, 1, 8, load=True)


def test_the_encoders_own_tokenizer_is_taken(phobert, no_network):
    tokenizer = make_tokenizer(text_config(phobert), CAPTIONS)
    assert (tokenizer.vocab_size, tokenizer.pad_id, tokenizer.buckets) == (23, 1, (8, 16, 32))
    first = tokenizer.ids(["con xe hơi"])
    # A tokenizer.json beside PhoBERT's own files does not go before them.
    trained = make_tokenizer(TextTowerConfig(vocab_size=301), CAPTIONS)
    trained.save(phobert)
    assert make_tokenizer(text_config(phobert), CAPTIONS).ids(["con xe hơi"]) == first
    (phobert / "vocab.txt").unlink()
    again = make_tokenizer(text_config(phobert), CAPTIONS)
    assert again.ids(CAPTIONS) == trained.ids(CAPTIONS)
    assert not no_network


def test_a_tokenizer_is_trained_or_taken_from_a_folder(tmp_path):
    bpe = make_tokenizer(TextTowerConfig(vocab_size=301), CAPTIONS)
    words = make_tokenizer(TextTowerConfig(tokenizer="words", lowercase=False), CAPTIONS)
    assert bpe.ids(["Con chó"]) == bpe.ids(["con chó"])
    assert words.ids(["Con chó"]) != words.ids(["con chó"])
    assert words.ids(["zzz"]) == [[0, 3, 2]]
    words.save(tmp_path)
    config = TextTowerConfig(tokenizer=str(tmp_path))
    assert make_tokenizer(config, []).ids(CAPTIONS) == words.ids(CAPTIONS)
    with pytest.raises(TokenizerError, match=r"holds neither tokenizer\.json"):
        make_tokenizer(TextTowerConfig(tokenizer=str(tmp_path / "gone")), CAPTIONS)
