import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.text_models import write_model
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.errors import BundleError, DataError, TrainingError
from vireo_client.text.pipeline import TextPath
from vireo_training.evaluation.evaluate import evaluate, select_records
from vireo_training.loop.train import train
from vireo_training.models.bundle_writer import load_model
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.models.image_tower import ImageTower
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.presets import load_config

BIN = Path(sys.executable).parent
QUICK = ["epochs=1", "batch_size=32", "text.layers=1", "text.segmenter=none"]
TINY = [*QUICK, "batch_size=8", "image.size=48", "image.resize=48", "text.width=32",
        "validation_fraction=0.2"]  # fmt: skip
# Without batch norm and dropout a batch's gradient is one and the same however it is computed.
EXACT = [*TINY, "image.name=test_vit", "image.pool=model", "image.kwargs.img_size=48",
         "precision=fp32", "epochs=2"]  # fmt: skip


def test_training_learns(run, bundle, test_records):
    history = [json.loads(line) for line in (run / "history.jsonl").open()]
    assert history[-1]["loss"] < history[0]["loss"]
    with Embedder(bundle, TorchTowers.from_bundle(bundle)) as embedder:
        report = evaluate(embedder, test_records)
    for way in ("text_to_image", "image_to_text"):
        figures, chance = report[way], report[f"chance_{way}"]
        assert figures["mean_reciprocal_rank"] > 2 * chance["mean_reciprocal_rank"]


def test_one_seed_gives_one_bundle(scenes, tmp_path):
    ids = [
        Bundle(train(load_config("scenes", QUICK), scenes / "test", tmp_path / n).bundle).bundle_id
        for n in "ab"
    ]
    assert ids[0] == ids[1]


def test_pretrained_weights_are_loaded_and_kept_when_frozen(scenes, tmp_path):
    import timm

    torch.manual_seed(1)
    pretrained = timm.create_model("test_resnet", num_classes=7)  # with a classifier to leave out
    save_file(pretrained.state_dict(), tmp_path / "model.safetensors")
    settings = [*QUICK, f"image.weights={tmp_path}", "image.freeze=true"]
    result = train(load_config("scenes", settings), scenes / "test", tmp_path / "run")
    trained = load_file(result.bundle / "model.safetensors")
    name = "conv1.0.weight" if "conv1.0.weight" in pretrained.state_dict() else "conv1.weight"
    assert torch.equal(trained[f"image_tower.backbone.{name}"], pretrained.state_dict()[name])
    statistics = "bn1.running_mean"
    assert torch.equal(
        trained[f"image_tower.backbone.{statistics}"], pretrained.state_dict()[statistics]
    )


def test_a_bundle_carries_its_segmenters_files(scenes, tmp_path, monkeypatch):
    """A server has no other place to look for them, and no fallback."""
    write_model(tmp_path / "data" / "vncorenlp" / "models" / "wordsegmenter")
    monkeypatch.setenv("VIREO_DATA", str(tmp_path / "data"))
    settings = [*QUICK, "text.segmenter=auto"]
    result = train(load_config("scenes", settings), scenes / "test", tmp_path / "run")
    monkeypatch.delenv("VIREO_DATA")
    bundle = Bundle(result.bundle)
    assert bundle.config.text.segmenter == "vncorenlp"
    assert TextPath.from_bundle(bundle).segment("hòa bình trên bãi cỏ") == "hoà_bình trên bãi_cỏ"
    (bundle.folder / "vi-vocab").unlink()
    with pytest.raises(BundleError, match="vi-vocab is missing"):
        Bundle(result.bundle)


def test_bad_weights_are_an_error_with_advice(tmp_path):
    for content, message in ((None, "no such file"), (b"junk", "cannot be read")):
        path = tmp_path / "w.safetensors"
        if content is not None:
            path.write_bytes(content)
        config = load_config("scenes", [f"image.weights={path}"])
        with pytest.raises(TrainingError, match=message):
            ImageTower(config.image, 32, load=True)
    save_file({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(TrainingError, match="do not fit the model"):
        ImageTower(config.image, 32, load=True)


def test_an_unknown_tower_is_an_error():
    config = load_config("scenes", ["image.name=resnet9000"])
    with pytest.raises(TrainingError, match=r"resnet9000.*timm\.list_models"):
        ImageTower(config.image, 32, load=True)


def test_too_little_data_is_an_error(data_set, tmp_path):
    path = data_set({"image": "a.jpg", "captions": ["x"]}, images=("a.jpg",))
    with pytest.raises(DataError, match="at least 2"):
        train(load_config("scenes", [*QUICK, "validation_fraction=0"]), path, tmp_path / "run")


def test_a_word_vocabulary_trains_as_well(scenes, tmp_path):
    settings = load_config("scenes", [*QUICK, "text.tokenizer=words"])
    bundle = Bundle(train(settings, scenes / "test", tmp_path).bundle)
    (batch,) = TextPath.from_bundle(bundle).encode(["con cá zzz"])
    assert batch.input_ids[0].tolist().count(3) == 1  # <unk>


@pytest.mark.parametrize("damage", ["truncated", "settings"])
def test_a_damaged_bundle_is_an_error(bundle, tmp_path, damage):
    folder = shutil.copytree(bundle.folder, tmp_path / "b")
    if damage == "truncated":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    else:
        config = json.loads((folder / "bundle.json").read_text())
        config["model"]["image"]["size"] = -1
        (folder / "bundle.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="weights do not load"):
        load_model(Bundle(folder))


def test_other_formats_train_as_well(scenes, tmp_path):
    lines = [json.loads(line) for line in (scenes / "test" / "captions.jsonl").open()]
    rows = [{"file_name": r["image"], "caption": c} for r in lines for c in r["captions"]]
    path = tmp_path / "minh.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    settings = load_config("scenes", QUICK)
    ids = [
        Bundle(train(settings, data, tmp_path / str(number)).bundle).bundle_id
        for number, data in enumerate([scenes / "test", f"{path}@{scenes / 'test'}"])
    ]
    assert ids[0] == ids[1]


def test_weights_of_another_model_do_not_load(bundle, tmp_path):
    folder = shutil.copytree(bundle.folder, tmp_path / "b")
    save_file({"x": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(BundleError, match="weights do not load"):
        load_model(Bundle(folder))


def test_embeddings_have_unit_length_and_ignore_padding(bundle):
    towers = TorchTowers.from_bundle(bundle)
    ids = np.array([[0, 5, 6, 2]], dtype=np.int32)
    padded = np.full((1, 32), bundle.config.text.pad_id, dtype=np.int32)
    padded[:, :4] = ids
    short, long = towers.encode_text(ids), towers.encode_text(padded)
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
    assert np.allclose(short, long, atol=1e-6)


def test_evaluation_uses_the_split_that_training_held_out(bundle, scenes):
    parts = [select_records(bundle, scenes / "train", s) for s in ("train", "validation")]
    assert len(parts[0]) == bundle.config.provenance["pictures"]["train"]
    assert not {r.path for r in parts[0]} & {r.path for r in parts[1]}
    with pytest.raises(DataError, match="no image is in the test split"):
        select_records(bundle, scenes / "train", "test")


def _history(out):
    return [json.loads(line) for line in (out / "history.jsonl").open()]


def _losses(settings, data, out, **options):
    train(load_config("scenes", settings), data, out, **options)
    return [line["loss"] for line in _history(out)]


@pytest.fixture(scope="module")
def plain_losses(scenes, tmp_path_factory):
    return _losses(EXACT, scenes / "test", tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("settings", [["grad_cache=3"], ["image.checkpointing=true"]])
def test_less_memory_changes_no_result(settings, plain_losses, scenes, tmp_path):
    losses = _losses([*EXACT, *settings], scenes / "test", tmp_path)
    assert losses == pytest.approx(plain_losses, abs=2e-3)


def test_two_devices_train_as_one(plain_losses, scenes, tmp_path):
    """Two processes over gloo."""
    settings = [word for setting in EXACT for word in ("--set", setting)]
    done = subprocess.run(
        [BIN / "torchrun", "--nproc-per-node", "2", "--standalone", "--no-python",
         BIN / "vireo", "train", scenes / "test", "--out", tmp_path, "--preset", "scenes",
         *settings],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    losses = [line["loss"] for line in _history(tmp_path)]
    assert losses == pytest.approx(plain_losses, abs=2e-3)
    assert done.stderr.count("epoch   1/2") == 1  # the main process alone prints
    assert done.stdout.count("next: vireo export") == 1
    assert load_model(Bundle(tmp_path / "bundle"))
    assert not list(tmp_path.glob(".pixels*"))


def test_a_frozen_towers_features_are_computed_once_and_kept(scenes, tmp_path, monkeypatch):
    import timm

    save_file(timm.create_model("test_vit", img_size=48).state_dict(), tmp_path / "w.safetensors")
    frozen = [*EXACT, f"image.weights={tmp_path / 'w.safetensors'}", "image.freeze=true"]
    # Frozen to the end, though it is not known at the start: nothing can be kept.
    expected = _losses([*frozen, "image.unfreeze_after=9"], scenes / "test", tmp_path / "a")
    assert not list((tmp_path / "a").glob("features-*"))
    assert _losses(frozen, scenes / "test", tmp_path / "b") == pytest.approx(expected, abs=2e-3)
    files = list((tmp_path / "b").glob("features-*.npy"))
    assert len(files) == 2  # training, validation

    def computed_again(*arguments):
        raise AssertionError("the features were there")

    with monkeypatch.context() as patch:
        patch.setattr(ImageTower, "features", computed_again)
        again = _losses(frozen, scenes / "test", tmp_path / "b")
        # Another run, with another head and text tower, may take them as well.
        other = [*frozen, 'image.head={"kind": "linear"}', "text.kind=bag-of-words"]
        _losses(other, scenes / "test", tmp_path / "c", features=tmp_path / "b")
    assert again == pytest.approx(expected, abs=2e-3)
    assert not list((tmp_path / "c").glob("features-*"))
    more = [*frozen, "augment.flip=0.5", "feature_views=3"]
    _losses(more, scenes / "test", tmp_path / "b")
    (views,) = set(tmp_path.glob("b/features-*.npy")) - set(files)
    train_images = Bundle(tmp_path / "b" / "bundle").config.provenance["pictures"]["train"]
    assert np.load(views).shape[:2] == (train_images, 3)


def test_a_tower_unfreezes_when_its_time_has_come(scenes, tmp_path):
    import timm

    pretrained = timm.create_model("test_vit", img_size=48).state_dict()
    save_file(pretrained, tmp_path / "w.safetensors")
    settings = [*EXACT, f"image.weights={tmp_path / 'w.safetensors'}", "image.freeze=true",
                "image.unfreeze_after=1", "validation_fraction=0"]  # fmt: skip
    name = "blocks.0.attn.qkv.weight"
    for epochs, same in ((1, True), (2, False)):
        config = load_config("scenes", [*settings, f"epochs={epochs}"])
        result = train(config, scenes / "test", tmp_path / str(epochs))
        weights = load_file(result.bundle / "model.safetensors")
        assert torch.equal(weights[f"image_tower.backbone.{name}"], pretrained[name]) == same


def test_training_that_no_longer_improves_ends(scenes, tmp_path):
    still = ["lr_image=0", "lr_text=0", "lr_head=0", "epochs=30", "patience=2"]
    assert len(_losses([*EXACT, *still], scenes / "test", tmp_path)) == 3


@pytest.mark.parametrize("loss", ["siglip", "infonce"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_mixed_precision_and_both_losses_learn(loss, precision, scenes, tmp_path):
    settings = [*EXACT, f"loss={loss}", f"precision={precision}", "epochs=4"]
    losses = _losses(settings, scenes / "test", tmp_path)
    assert losses[-1] < losses[0]


def test_a_fixed_temperature_stays(scenes, tmp_path):
    settings = [*TINY, "temperature=1.0", "learn_temperature=false"]
    model = load_model(
        Bundle(train(load_config("scenes", settings), scenes / "test", tmp_path).bundle)
    )
    assert model.logit_scale.item() == 1


def test_captions_without_images_train_the_text_tower(scenes, tmp_path, monkeypatch):
    words = [f"từ{n}" for n in range(40)]
    lines = [{"captions": [f"{w} a", f"{w} b"], "id": n} for n, w in enumerate(words)]
    file = tmp_path / "captions.jsonl"
    file.write_text("\n".join(map(json.dumps, [*lines, {"captions": ["  "]}, {"x": 1}])) + "\n{")
    # Without validation the last epoch is kept, not an early one of small steps.
    own = ["text_pairs=1", "text.tokenizer=words", "epochs=3", "validation_fraction=0"]
    settings = load_config("scenes", [*TINY, *own])
    bundle = Bundle(train(settings, scenes / "test", tmp_path / "r", captions=[file]).bundle)
    encoded = TextPath.from_bundle(bundle).encode(words)
    assert not any((batch.input_ids == 3).any() for batch in encoded)  # none is unknown
    untouched = _untrained_tokens(settings, bundle)
    trained = load_file(bundle.folder / "model.safetensors")["text_tower.backbone.tokens.weight"]
    rows = [int(batch.input_ids[0, 1]) for batch in encoded]
    assert not torch.allclose(trained[rows], untouched[rows], atol=1e-4)

    monkeypatch.setattr("vireo_training.data.prepare.decode_images", None)  # errors come before it
    with pytest.raises(DataError, match="cannot be read"):
        train(settings, scenes / "test", tmp_path / "r", captions=[tmp_path / "none.jsonl"])
    file.write_text('{"captions": []}')
    with pytest.raises(DataError, match="no captions; 1 skipped"):
        train(settings, scenes / "test", tmp_path / "r", captions=[file])


def _untrained_tokens(settings, bundle):
    torch.manual_seed(settings.seed)
    spec = bundle.config.text
    return DualEncoder(
        settings, spec.vocab_size, spec.pad_id, load=True
    ).text_tower.backbone.tokens.weight


def test_sources_are_mixed_by_their_weights(scenes, tmp_path):
    lines = [json.loads(line) for line in (scenes / "test" / "captions.jsonl").open()]
    files = []
    for name, part in (("a", lines[:24]), ("b", lines[24:])):
        file = scenes / "test" / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in part))
        files.append(file)
    result = train(
        load_config("scenes", [*TINY, "validation_fraction=0"]),
        [str(files[0]), f"{files[1]}=3"], tmp_path / "run",
    )  # fmt: skip
    provenance = Bundle(result.bundle).config.provenance
    assert provenance["pictures"]["train"] == 48
    assert provenance["data"] == "a.jsonl, b.jsonl=3"


def test_few_images_with_one_drawn_most_fill_batches_all_the_same(scenes, tmp_path):
    lines = (scenes / "test" / "captions.jsonl").read_text().splitlines()
    data = shutil.copytree(scenes / "test", tmp_path / "data")
    (data / "a.jsonl").write_text(lines[0])
    (data / "b.jsonl").write_text("\n".join(lines[1:6]))
    settings = [*TINY, "batch_size=4", "validation_fraction=0", "epochs=3"]
    assert len(_losses(settings, [f"{data}/a.jsonl=50", f"{data}/b.jsonl"], tmp_path / "run")) == 3


def test_batch_norm_of_one_image_is_refused_before_it_fails(scenes, tmp_path):
    settings = [*TINY, "image.head.kind=mlp", "grad_cache=1"]
    with pytest.raises(
        TrainingError, match=r"cannot take statistics of one image: give batch_size"
    ):
        train(load_config("scenes", settings), scenes / "test", tmp_path)


def test_changes_of_image_files_while_training_change_nothing(scenes, tmp_path, monkeypatch):
    """With a frozen tower, whose features are computed after the images were decoded."""
    import timm
    from vireo_training.loop import train as module

    save_file(timm.create_model("test_vit", img_size=48).state_dict(), tmp_path / "w.safetensors")
    frozen = [*EXACT, f"image.weights={tmp_path / 'w.safetensors'}", "image.freeze=true"]
    expected = _losses(frozen, scenes / "test", tmp_path / "a")
    data = shutil.copytree(scenes / "test", tmp_path / "data")
    plain = module.prepare

    def prepare_then_lose(*arguments, **options):
        prepared = plain(*arguments, **options)
        for number, record in enumerate(prepared.train.records):
            record.path.unlink() if number % 2 else record.path.write_bytes(b"junk")
        return prepared

    monkeypatch.setattr(module, "prepare", prepare_then_lose)
    assert _losses(frozen, data, tmp_path / "b") == expected
    names = [{p.name for p in (tmp_path / run).glob("features-*")} for run in "ab"]
    assert names[0] == names[1]  # of the images that were decoded, not of the files


def test_separate_validation_data_is_used_and_does_not_leak(scenes, tmp_path, caplog):
    both = tmp_path / "both"
    shutil.copytree(scenes / "test", both)
    lines = (both / "captions.jsonl").read_text().splitlines()
    (both / "held.jsonl").write_text("\n".join(lines[:10]))
    result = train(
        load_config("scenes", TINY), both, tmp_path / "run", validation=str(both / "held.jsonl")
    )
    provenance = Bundle(result.bundle).config.provenance
    assert provenance["pictures"] == {"train": 38, "validation": 10, "test": 0}
    assert "skipped 10" in caplog.text
    assert "is in the validation set as well" in caplog.text
    assert result.metrics["text_to_image"]["candidates"] == 10


def test_captions_of_any_length_train(data_set, tmp_path):
    lines = [
        {"image": f"{n}.png", "captions": [text, "một con cá"]}
        for n, text in enumerate(["  ", "dài " * 3000, "x" * 5000, "\u00a0", "câu", "a\u0300"])
    ]
    path = data_set(*lines, images=tuple(line["image"] for line in lines))
    settings = [*TINY, "batch_size=4", "validation_fraction=0", "test_fraction=0"]
    assert _losses(settings, path, tmp_path / "run")


def test_tensorboard_has_the_curves(scenes, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses = _losses([*TINY, "epochs=2"], scenes / "test", tmp_path)
    events = EventAccumulator(str(tmp_path / "logs" / "vireo"))
    events.Reload()
    steps = [event.value for event in events.Scalars("loss")]
    per_epoch = len(steps) // 2
    assert np.mean(steps[-per_epoch:]) == pytest.approx(losses[-1], abs=1e-3)
    assert len(events.Scalars("text_to_image/recall_at_1")) == 2


def test_a_tracker_that_is_not_installed_is_an_error(scenes, tmp_path):
    config = load_config("scenes", [*TINY, 'trackers=["comet_ml"]'])
    with pytest.raises(TrainingError, match="comet_ml is not installed"):
        train(config, scenes / "test", tmp_path)


def test_compiled_towers_train_to_the_same(plain_losses, scenes, tmp_path, monkeypatch):
    # All but the compiler itself, which takes minutes.
    plain = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **kw: plain(self, backend="aot_eager", **kw)
    )
    losses = _losses([*EXACT, "compile=true"], scenes / "test", tmp_path)
    assert losses == pytest.approx(plain_losses, abs=2e-3)
    assert load_model(Bundle(tmp_path / "bundle"))


def test_settings_that_can_do_nothing_are_named(scenes, tmp_path, caplog):
    settings = [*TINY, "validation_fraction=0", "patience=3", "text_pairs=1",
                "captions_per_picture=1"]  # fmt: skip
    train(load_config("scenes", settings), scenes / "test", tmp_path)
    assert "the last epoch is kept, and patience can do nothing" in caplog.text
    assert "text_pairs can do nothing" in caplog.text
