import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import write_model
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.errors import BundleError, DataError, TrainingError
from vireo_client.text.pipeline import TextPath
from vireo_training import train as module
from vireo_training.bundle_writer import load_model
from vireo_training.config import load_config
from vireo_training.evaluate import evaluate, select_records
from vireo_training.image_tower import ImageTower
from vireo_training.torch_towers import TorchTowers
from vireo_training.train import train

QUICK = ["epochs=1", "batch_size=32", "text.layers=1", "text.segmenter=none"]


def test_training_learns(run, bundle, test_records):
    history = [json.loads(line) for line in (run / "history.jsonl").open()]
    assert history[-1]["loss"] < history[0]["loss"]
    with Embedder(bundle, TorchTowers(bundle)) as embedder:
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


def test_ctrl_c_writes_the_best_epoch_so_far(scenes, tmp_path, monkeypatch):
    plain, calls = module.training_batches, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(module, "training_batches", interrupted)
    config = load_config("scenes", [*QUICK, "epochs=5"])
    result = train(config, scenes / "test", tmp_path / "run")
    assert result.interrupted
    assert load_model(Bundle(result.bundle))
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 1


def test_a_loss_that_is_not_finite_stops_and_keeps_the_old_bundle(scenes, tmp_path):
    train(load_config("scenes", QUICK), scenes / "test", tmp_path)
    before = Bundle(tmp_path / "bundle").bundle_id
    broken = [*QUICK, "epochs=9", "lr_head=1e30", "lr_text=1e30", "lr_image=1e30"]
    with pytest.raises(TrainingError, match="lower the learning rates"):
        train(load_config("scenes", broken), scenes / "test", tmp_path)
    assert Bundle(tmp_path / "bundle").bundle_id == before


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
    """What is served later has no other place to look, and no fallback."""
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


def test_bad_weights_are_an_error_that_says_what_to_do(tmp_path):
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
    path = data_set({"image": "a.jpg", "captions": ["x"]}, pictures=("a.jpg",))
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
    towers = TorchTowers(bundle)
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
    with pytest.raises(DataError, match="no picture is in the test split"):
        select_records(bundle, scenes / "train", "test")
