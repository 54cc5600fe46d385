"""The closed form, held to scikit-learn's PCA, TF-IDF and ridge regression."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from vireo_client.errors import TrainingError
from vireo_training.data.captions import Captions, Ragged
from vireo_training.loop.warm_start import PENALTIES, warm_start
from vireo_training.models.dual_encoder import DualEncoder
from vireo_training.presets import load_config

HEADS = ['image.head={"kind": "linear", "bias": true, "unit_features": true}',
         'text.head={"kind": "none"}', "embedding_dim=8", "text.width=8"]  # fmt: skip
WORDS = ["text.kind=bag-of-words", "text.pool=mean"]
TRANSFORMER = ["text.shortcut=true", "text.heads=2"]
IMAGES, WIDTH, VOCABULARY, PAD = 40, 64, 60, 1


@pytest.fixture(scope="module")
def data():
    """Images whose features are sums of what their captions name, and noise."""
    rng = np.random.default_rng(0)
    meaning = rng.normal(size=(VOCABULARY, WIDTH))
    rows = [np.r_[0, rng.integers(4, VOCABULARY, 5), 2] for _ in range(2 * IMAGES)]
    owner = np.repeat(np.arange(IMAGES), 2)
    features = np.zeros((IMAGES, 1, WIDTH), dtype=np.float32)
    for row, image in zip(rows, owner, strict=True):
        features[image, 0] += meaning[row[1:-1]].sum(0)
    features += rng.normal(size=features.shape)
    return features, rows, owner


def _model(tmp_path, *settings):
    file = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), file)
    image = [f"image.weights={file}", "image.freeze=true", "image.name=test_vit",
             "image.size=160", "image.resize=160", "image.pool=model"]  # fmt: skip
    config = load_config("scenes", [*image, *HEADS, *settings, "warm_start=true"])
    return DualEncoder(config, VOCABULARY, PAD, load=True).eval()


@pytest.mark.parametrize("tower", [WORDS, TRANSFORMER])
def test_the_towers_answer_as_the_regression_does(tower, data, tmp_path):
    features, rows, owner = data
    model = _model(tmp_path, *tower)
    assert model.image_tower.head[1][1].in_features == WIDTH
    captions = Captions.of(
        [2] * IMAGES, [Ragged.of([row.tolist() for row in rows])], np.arange(len(rows))
    )
    penalty = warm_start(model, features, captions, seed=0)
    assert penalty in PENALTIES

    images = features[:, 0] / np.linalg.norm(features[:, 0], axis=1, keepdims=True)
    pca = PCA(8).fit(images)
    projected = pca.transform(images)
    texts = [" ".join(map(str, row)) for row in rows]
    tfidf = TfidfVectorizer(token_pattern=r"\S+", norm="l2")
    counts = tfidf.fit_transform(texts)
    ridge = Ridge(alpha=penalty, fit_intercept=False).fit(counts, projected[owner])
    expected = ridge.predict(counts)

    # The signs of principal components are free, so similarities are compared.
    with torch.inference_mode():
        image = model.image_tower.project(torch.from_numpy(features[:, 0])).numpy()
        ids = torch.full((len(rows), 9), PAD, dtype=torch.int32)
        ids[:, :7] = torch.from_numpy(np.stack(rows))
        text = model.text_tower(ids).numpy()
    cosine = _unit(expected) @ _unit(projected).T
    assert np.allclose(text @ image.T, cosine, atol=1e-4)
    right = (text @ image.T).argmax(1) == owner
    assert right.mean() > 0.5  # chance is 1 in 40


def _unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_too_few_images_are_an_error(data, tmp_path):
    captions = Captions.of([1] * 3, [Ragged.of([[0, 5, 2]] * 3)], np.arange(3))
    with pytest.raises(TrainingError, match="3 images are too few; set warm_start=false"):
        warm_start(_model(tmp_path, *WORDS), data[0][:3], captions, seed=0)


@pytest.mark.parametrize(
    "setting", ["image.freeze=false", 'image.head={"kind": "linear"}', "text.kind=lstm",
                "image.unfreeze_after=3"],
)  # fmt: skip
def test_settings_that_are_not_linear_are_refused(setting):
    settings = ["image.weights=x", "image.freeze=true", *HEADS, *WORDS, "warm_start=true", setting]
    with pytest.raises(TrainingError, match="warm_start needs"):
        load_config("scenes", settings)


def test_a_head_that_is_none_wants_the_embeddings_width(tmp_path):
    with pytest.raises(TrainingError, match=r"8 values and the embedding 16; set embedding_dim=8"):
        _model(tmp_path, *WORDS, "embedding_dim=16")
