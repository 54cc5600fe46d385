"""What ends a run before its images are decoded, and what it writes."""

import pytest
from vireo_client.bundle import Bundle
from vireo_client.errors import DataError, TrainingError
from vireo_training.evaluation.evaluate import select_records
from vireo_training.loop import train as module
from vireo_training.loop.train import train
from vireo_training.presets import load_config

TINY = ["epochs=1", "batch_size=8", "text.layers=1", "text.segmenter=none", "text.width=16",
        "image.size=32", "image.resize=32"]  # fmt: skip


def test_wrong_image_weights_end_a_run_before_images_are_decoded(scenes, tmp_path, monkeypatch):
    def too_late(*arguments, **options):
        raise AssertionError("decoded first")

    monkeypatch.setattr(module, "prepare", too_late)
    junk = tmp_path / "junk.bin"
    junk.write_bytes(b"no weights")
    for weights, message in (
        (junk, r"junk\.bin: cannot be read"),
        (tmp_path / "x", "no such file"),
    ):
        config = load_config("scenes", [*TINY, f"image.weights={weights}"])
        with pytest.raises(TrainingError, match=message):
            train(config, scenes / "test", tmp_path / "run")


def test_weights_are_as_readable_as_other_files(scenes, tmp_path):
    bundle = train(load_config("scenes", TINY), scenes / "test", tmp_path).bundle
    modes = {(bundle / name).stat().st_mode for name in ("model.safetensors", "tokenizer.json")}
    assert len(modes) == 1


def test_without_test_images_validation_is_offered(scenes, tmp_path):
    settings = [*TINY, "validation_fraction=0.25", "test_fraction=0"]
    bundle = Bundle(train(load_config("scenes", settings), scenes / "test", tmp_path).bundle)
    with pytest.raises(DataError, match=r"measure the 12 image\(s\) of validation.*--split valid"):
        select_records(bundle, scenes / "test", "test")
    assert len(select_records(bundle, scenes / "test", "validation")) == 12
    settings[-2] = "validation_fraction=0"
    bundle = Bundle(train(load_config("scenes", settings), scenes / "test", tmp_path / "b").bundle)
    with pytest.raises(DataError, match="all images, those that the model was trained on as well"):
        select_records(bundle, scenes / "test", "test")
