"""One set of tests over the three embedders: they must agree, and behave alike."""

import numpy as np
import pytest
from PIL import Image
from vireo_client.embedder import Embedder
from vireo_client.errors import DataError, ImageError
from vireo_client.towers.onnx import OnnxTowers
from vireo_client.towers.triton import TritonTowers
from vireo_training.models.torch_towers import TorchTowers

TEXTS = [
    "Hai con cá màu đỏ ở bên trái",
    "",
    "   ",
    "CON CÁ VÀNG",
    "ngôi nhà " * 200,
    "🐟🐟 two red fish, hai con cá!",
    "khong dau gi ca",
    "một",
]


@pytest.fixture(scope="module", params=["torch", "onnx", "triton"])
def embedder(request, bundle, repository, triton):
    towers = {
        "torch": lambda: Embedder(bundle, TorchTowers.from_bundle(bundle)),
        "onnx": lambda: Embedder(repository, OnnxTowers.from_repository(repository)),
        "triton": lambda: Embedder(repository, TritonTowers(repository, triton.url)),
    }
    with towers[request.param]() as value:
        yield value


@pytest.fixture(scope="module")
def reference(bundle):
    with Embedder(bundle, TorchTowers.from_bundle(bundle)) as value:
        yield value


def test_queries_agree_with_the_reference(embedder, reference):
    vectors = embedder.embed_texts(TEXTS, allow_unknown=True)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.abs(vectors - reference.embed_texts(TEXTS, allow_unknown=True)).max() < 1e-4


def test_images_agree_with_the_reference(embedder, reference, test_records):
    paths = [record.path for record in test_records]
    vectors = embedder.embed_images(paths)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.abs(vectors - reference.embed_images(paths)).max() < 1e-4


def test_paths_bytes_and_images_are_one(embedder, test_records):
    path = test_records[0].path
    vectors = embedder.embed_images([path, str(path), path.read_bytes(), Image.open(path)])
    assert np.abs(vectors - vectors[0]).max() < 1e-5


def test_a_vector_does_not_depend_on_its_batch(embedder):
    together = embedder.embed_texts(TEXTS, allow_unknown=True)
    for number, text in enumerate(TEXTS):
        alone = embedder.embed_texts([text], allow_unknown=True)[0]
        assert np.abs(alone - together[number]).max() < 1e-5


def test_nothing_gives_nothing(embedder):
    assert embedder.embed_texts([]).shape == (0, embedder.dim)
    assert embedder.embed_images([]).shape == (0, embedder.dim)


def test_bad_input_is_an_error_of_the_same_kind(embedder, tmp_path):
    with pytest.raises(DataError, match="put it in a list"):
        embedder.embed_texts("một câu")
    with pytest.raises(DataError, match="type NoneType"):
        embedder.embed_texts([None])
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        embedder.embed_images([tmp_path / "gone.jpg"])
    with pytest.raises(DataError, match="put it in a list"):
        embedder.embed_images("photo.jpg")


def test_a_stream_goes_on_past_broken_images(embedder, test_records, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    sources = [test_records[0].path, broken, test_records[1].path, b"", test_records[2].path]
    batches = list(embedder.embed_image_stream(sources, batch_size=2))
    assert [p for b in batches for p in b.positions] == [0, 2, 4]
    assert [s.where for b in batches for s in b.skipped] == [str(broken), "image 3"]
    vectors = np.concatenate([b.embeddings for b in batches])
    assert np.abs(vectors - embedder.embed_images([r.path for r in test_records[:3]])).max() < 1e-5
