"""Data that names its splits, from training to evaluation."""

import json
import shutil

import pytest
import typer
from typer.testing import CliRunner
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.errors import DataError
from vireo_training.commands.evaluate import evaluate
from vireo_training.evaluation.evaluate import default_split, select_records
from vireo_training.evaluation.report import baseline_records
from vireo_training.loop.train import train
from vireo_training.presets import load_config

SETTINGS = ["epochs=1", "batch_size=8", "image.size=48", "image.resize=48", "text.width=32",
            "text.layers=1", "text.segmenter=none", "text.tokenizer=words"]  # fmt: skip
NAMES = ("train", "restval", "val", "test")


@pytest.fixture(scope="module")
def karpathy(scenes, tmp_path_factory):
    """Scenes as `dataset_flickr30k.json`: a quarter of the images in each split."""
    path = tmp_path_factory.mktemp("karpathy") / "dataset.json"
    images = [
        {
            "filename": str(record.path),
            "sentences": [{"raw": text} for text in record.captions],
            "split": NAMES[number % 4],
        }
        for number, record in enumerate(read_captions(scenes / "test").records)
    ]
    path.write_text(json.dumps({"images": images}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(karpathy, tmp_path_factory):
    return train(load_config("scenes", SETTINGS), karpathy, tmp_path_factory.mktemp("run")).bundle


def _with_division(bundle, folder, division):
    """Copy a bundle, with another record of how its data was divided."""
    shutil.copytree(bundle, folder)
    config = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    config["provenance"]["split"] = division
    if division is None:
        del config["provenance"]["split"]
    (folder / "bundle.json").write_text(json.dumps(config), encoding="utf-8")
    return Bundle(folder)


def test_training_and_evaluation_keep_to_the_names(trained, karpathy):
    bundle = Bundle(trained)
    assert bundle.config.provenance["pictures"] == {"train": 24, "validation": 12, "test": 12}
    assert bundle.config.metrics
    listed = json.loads(karpathy.read_text(encoding="utf-8"))["images"]
    found = {str(record.path) for record in select_records(bundle, karpathy, "test")}
    assert found == {image["filename"] for image in listed if image["split"] == "test"}
    assert len(baseline_records(bundle, karpathy, "test", None)) == 24


def test_evaluate_takes_the_test_split_and_says_so(trained, karpathy, tmp_path):
    foreign = _with_division(trained, tmp_path / "foreign", None)
    app = typer.Typer()
    app.command()(evaluate)
    for folder in (trained, foreign.folder):
        done = CliRunner().invoke(app, [str(folder), "--data", str(karpathy), "--json"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["pictures"] == 12
        said = " ".join(done.stderr.split())
        assert f"{karpathy} names its splits: measured on its test split, 12 images" in said


def test_a_bundle_without_a_division_needs_data_that_names_splits(
    trained, karpathy, scenes, tmp_path
):
    foreign = _with_division(trained, tmp_path / "foreign", None)
    assert default_split(foreign, "test", karpathy) == "test"
    assert default_split(foreign, "test", scenes / "test") == "all"
    with pytest.raises(DataError, match=r"records no split, and .* names none; use --split all"):
        select_records(foreign, scenes / "test", "test")


def test_a_bundle_that_was_divided_by_bytes_is_not_measured_on_what_it_learnt(
    trained, karpathy, scenes, tmp_path
):
    division = {"validation_fraction": 0.3, "test_fraction": 0.3, "seed": 0}
    older = _with_division(trained, tmp_path / "older", division)
    named = {record.path for record in select_records(older, karpathy, "test")}
    assert named == {record.path for record in select_records(older, scenes / "test", "test")}


def test_tables_without_a_header_are_trained_on_and_measured(scenes, tmp_path):
    rows = [f"{r.path}\t0\t{r.captions[0]}" for r in read_captions(scenes / "test").records]
    path = tmp_path / "x.txt"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="--columns image,caption"):
        train(load_config("scenes", SETTINGS), path, tmp_path / "run")
    columns = ["image", "number", "caption"]
    result = train(load_config("scenes", SETTINGS), path, tmp_path / "run", columns=columns)
    app = typer.Typer()
    app.command()(evaluate)
    words = [str(result.bundle), "--data", str(path), "--columns", ",".join(columns), "--json"]
    done = CliRunner().invoke(app, [*words, "--split", "all"])
    assert json.loads(done.stdout)["pictures"] == 48
