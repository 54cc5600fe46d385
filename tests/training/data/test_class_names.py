"""Names of what an image tower's classifier tells apart."""

import json
import unicodedata

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from vireo_client.errors import TrainingError
from vireo_training.data.captions import Captions, Ragged
from vireo_training.data.class_names import read_class_names
from vireo_training.loop.train import train
from vireo_training.loop.warm_start import CLASS_LENGTH, CLASS_WEIGHT, Classes, warm_start
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.models.image_tower import classifier_weights
from vireo_training.models.resolve import resolve
from vireo_training.models.torchvision_ops import ensure_torchvision
from vireo_training.presets import load_config

ensure_torchvision()
import timm  # noqa: E402

WIDTH, VOCABULARY, PAD = 64, 60, 1
LINEAR = ['image.head={"kind": "linear", "bias": true, "unit_features": true}',
          'text.head={"kind": "none"}', "embedding_dim=8", "text.width=8", "text.kind=bag-of-words",
          "text.pool=mean", "warm_start=true"]  # fmt: skip


def test_the_known_classes_have_vietnamese_names_in_the_classifiers_order():
    names = read_class_names("imagenet-1k")
    assert len(names) == 1000
    assert all(name == unicodedata.normalize("NFC", name) for several in names for name in several)
    some = {1: "cá vàng", 281: "con mèo", 346: "con trâu", 404: "máy bay", 671: "xe đạp",
            879: "cái ô", 954: "chuối", 978: "biển"}  # fmt: skip
    for number, name in some.items():
        assert name in names[number]


def test_names_of_ones_own(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("con cá | cá\nbông hoa\n", encoding="utf-8")
    assert read_class_names(str(file)) == [("con cá", "cá"), ("bông hoa",)]
    file.write_text("con cá\n | \n", encoding="utf-8")
    with pytest.raises(TrainingError, match="line 2 holds no name"):
        read_class_names(str(file))
    file.write_bytes(b"c\xe0\n")
    with pytest.raises(TrainingError, match=r"names\.txt: cannot be read .*one of imagenet-1k"):
        read_class_names(str(file))
    with pytest.raises(TrainingError, match="cannot be read"):
        read_class_names(str(tmp_path / "nowhere.txt"))


def _weights(tmp_path, classes):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=classes)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    return model.get_classifier().weight.detach() if classes else None


def _image(tmp_path, *settings):
    return [f"image.weights={tmp_path / 'w.safetensors'}", "image.name=test_vit",
            "image.freeze=true", "image.size=160", "image.resize=160", "image.pool=model",
            *settings]  # fmt: skip


def _found(tmp_path, classes, *settings):
    config = resolve(load_config("scenes", _image(tmp_path, *settings)))
    return classifier_weights(config.image, classes)


def test_the_classifier_is_that_of_the_weights(tmp_path):
    expected = _weights(tmp_path, 5)
    assert torch.equal(_found(tmp_path, 5), expected)
    # A background class before the others.
    assert torch.equal(_found(tmp_path, 4), expected[1:])


@pytest.mark.parametrize(
    ("there", "settings"),
    [(0, []), (7, []), (5, ["image.pool=grid"])],
    ids=["none", "another number", "not on these features"],
)
def test_without_such_a_classifier_there_is_none(tmp_path, there, settings):
    _weights(tmp_path, there)
    assert _found(tmp_path, 5, *settings) is None


def test_names_are_captions_of_the_classifiers_directions(tmp_path):
    """Held to scikit-learn's TF-IDF and weighted ridge regression."""
    rng = np.random.default_rng(0)
    weights = _weights(tmp_path, 6)
    model = DualEncoder(
        load_config("scenes", [*_image(tmp_path), *LINEAR]), VOCABULARY, PAD, load=True
    ).eval()
    features = rng.normal(size=(40, 1, WIDTH)).astype(np.float32)
    owner, classes = np.repeat(np.arange(40), 2), np.repeat(np.arange(6), 3)
    rows = [np.r_[0, rng.integers(4, VOCABULARY - 10, 5), 2] for _ in owner]
    names = [np.r_[0, rng.integers(20, VOCABULARY, 2), 2] for _ in classes]

    def captions(count, each, given):
        return Captions.of(
            [each] * count, [Ragged.of([row.tolist() for row in given])], np.arange(len(given))
        )

    penalty = warm_start(
        model, features, captions(40, 2, rows), seed=0,
        classes=Classes(captions(6, 3, names), weights),
    )  # fmt: skip

    images = features[:, 0] / np.linalg.norm(features[:, 0], axis=1, keepdims=True)
    pca = PCA(8).fit(images)
    directions = weights.double().numpy()
    directions -= directions.mean(axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    length = CLASS_LENGTH * np.linalg.norm(images - images.mean(axis=0), axis=1).mean()
    targets = np.concatenate([pca.transform(images)[owner],
                              (length * directions @ pca.components_.T)[classes]])  # fmt: skip
    counts = TfidfVectorizer(token_pattern=r"\S+", norm="l2")
    given = counts.fit_transform([" ".join(map(str, row)) for row in [*rows, *names]])
    share = np.r_[np.ones(len(rows)), np.full(len(names), CLASS_WEIGHT)]
    ridge = Ridge(alpha=penalty, fit_intercept=False).fit(given, targets, sample_weight=share)

    # One text of each kind, and one of a word that names alone have.
    rows_to_predict = [rows[0], names[0], np.r_[0, max(int(n[1:-1].max()) for n in names), 2]]
    ids = torch.full((3, 7), PAD, dtype=torch.int32)
    for number, row in enumerate(rows_to_predict):
        ids[number, : len(row)] = torch.from_numpy(row)
    with torch.inference_mode():
        image = model.image_tower.project(torch.from_numpy(features[:, 0])).numpy()
        text = model.text_tower(ids).numpy()
    expected = ridge.predict(counts.transform([" ".join(map(str, row)) for row in rows_to_predict]))
    # The signs of principal components are free, so similarities are compared.
    cosine = _unit(expected) @ _unit(pca.transform(images)).T
    assert np.allclose(text @ image.T, cosine, atol=1e-4)


def _unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _run(scenes, tmp_path, *settings):
    (tmp_path / "names.txt").write_text("vẹt\nsóc\nnhện\n", encoding="utf-8")
    config = load_config(
        "scenes",
        [*_image(tmp_path), *LINEAR, f"class_names={tmp_path / 'names.txt'}", "epochs=2",
         "validation_fraction=0.2", "text.tokenizer=words", "text.segmenter=none", *settings],
    )  # fmt: skip
    return train(config, scenes / "train", tmp_path / "run")


def test_a_run_knows_words_that_names_alone_have(scenes, tmp_path, caplog):
    _weights(tmp_path, 3)
    result = _run(scenes, tmp_path)
    vocabulary = json.loads((result.bundle / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert {"vẹt", "sóc", "nhện"} <= set(vocabulary)
    assert "class_names" not in caplog.text


@pytest.mark.parametrize(
    ("there", "settings", "why"),
    [(5, [], "test_vit have no classifier of 3 classes"),
     (3, ["warm_start=false"], "only warm_start uses them")],
)  # fmt: skip
def test_names_that_can_do_nothing_are_warned_of(scenes, tmp_path, caplog, there, settings, why):
    _weights(tmp_path, there)
    _run(scenes, tmp_path, *settings)
    assert f"class_names can do nothing: {why}" in caplog.text.replace("the weights of ", "")


def test_the_closed_form_is_epoch_0_and_is_written_if_no_epoch_is_better(scenes, tmp_path):
    """Rates that spoil everything at once."""
    _weights(tmp_path, 3)
    result = _run(scenes, tmp_path, "lr_text=10", "lr_head=10", "patience=1", "epochs=5")
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").open()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert "loss" not in lines[0]
    ways = ("text_to_image", "image_to_text")
    assert all(lines[1][way] != lines[0][way] == result.metrics[way] for way in ways)
    written = json.loads((result.bundle / "bundle.json").read_text("utf-8"))
    assert written["provenance"]["best_epoch"] == 0

    untrained = tmp_path / "untrained"
    untrained.mkdir()
    _weights(untrained, 3)
    other = _run(scenes, untrained, "lr_text=0", "lr_head=0", "epochs=1")
    expected = load_file(other.bundle / "model.safetensors")
    for name, value in load_file(result.bundle / "model.safetensors").items():
        assert torch.equal(value, expected[name]), name
