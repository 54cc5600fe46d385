"""The embedder over the towers in this process."""

import threading

import numpy as np
import pytest
from support.bundles import DIM, write_repository
from vireo_client.embedder import Embedder
from vireo_client.errors import DataError, ImageError
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL, model_file
from vireo_client.towers.onnx import OnnxTowers

TEXTS = ["hai con chó", "chó", "xe hơi đỏ " * 12, "một bãi cỏ", "hai  con chó"]


@pytest.fixture(scope="module")
def embedder(repository):
    with Embedder(repository, OnnxTowers.from_repository(repository, max_batch_size=2)) as value:
        yield value


def test_texts_become_unit_vectors_in_their_order(embedder):
    embeddings = embedder.embed_texts(TEXTS)
    assert embeddings.shape == (len(TEXTS), DIM)
    assert embeddings.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        assert np.allclose(embedder.embed_texts([text])[0], embedding, atol=1e-6)
    assert np.allclose(embeddings[0], embeddings[4], atol=1e-6)  # blanks do not count
    assert not np.allclose(embeddings[0], embeddings[3], atol=1e-3)


@pytest.mark.parametrize("text", ["", " \u200b\n", "👍", "👍 👍👍"])
def test_a_text_of_which_nothing_is_known_is_refused(embedder, text):
    with pytest.raises(DataError, match="text 1: holds no text that the model's tokenizer knows"):
        embedder.embed_texts(["hai con chó", text])
    embeddings = embedder.embed_texts(["hai con chó", text], allow_unknown=True)
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    embedder.embed_texts([f"chó {text}"])  # some of it is known


def test_images_become_unit_vectors_and_broken_ones_are_skipped(embedder, photo, tmp_path):
    paths = [photo(f"{number}.png", seed=number) for number in range(4)]
    paths.insert(1, tmp_path / "gone.jpg")
    batches = list(embedder.embed_image_stream(paths))
    assert [position for batch in batches for position in batch.positions] == [0, 2, 3, 4]
    (skip,) = [skip for batch in batches for skip in batch.skipped]
    assert skip.where == str(paths[1])
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        embedder.embed_images(paths)
    del paths[1]
    embeddings = embedder.embed_images(paths)
    assert np.allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert np.array_equal(embeddings, np.concatenate([batch.embeddings for batch in batches]))


def test_a_broken_image_without_a_path_is_named_by_its_position(embedder, photo):
    (batch,) = embedder.embed_image_stream([photo(), b"nothing"])
    (skip,) = batch.skipped
    assert str(skip) == "image 1: not a readable image (no format that Pillow knows)"


def test_one_value_is_no_list(embedder, photo):
    with pytest.raises(DataError, match="expected a list of images, got one"):
        embedder.embed_images(str(photo()))
    with pytest.raises(DataError, match="put it in a list"):
        embedder.embed_texts("xe hơi")


def test_two_files_need_no_repository(repository):
    files = [model_file(repository.folder, model) for model in (TEXT_MODEL, IMAGE_MODEL)]
    ids = np.full((3, 16), 5, dtype=np.int32)
    pixels = np.full((2, 3, 32, 32), 9, dtype=np.uint8)
    by_files = OnnxTowers(*files, threads=1)
    by_repository = OnnxTowers.from_repository(repository, threads=1)
    assert np.array_equal(by_files.encode_text(ids), by_repository.encode_text(ids))
    assert np.array_equal(by_files.encode_image(pixels), by_repository.encode_image(pixels))
    by_files.close()
    by_repository.close()


def test_the_small_repository_is_always_the_same(repository, tmp_path):
    again = write_repository(tmp_path / "again")
    for file in (path for path in repository.folder.rglob("*") if path.is_file()):
        copy = again.folder / file.relative_to(repository.folder)
        assert copy.read_bytes() == file.read_bytes(), file


@pytest.mark.parametrize("in_flight", [1, 3])
def test_towers_get_as_many_batches_at_once_as_they_say(repository, photo, in_flight):
    towers = OnnxTowers.from_repository(repository, max_batch_size=2)
    towers.batches_in_flight = in_flight
    plain, together = towers.encode_image, threading.Barrier(in_flight)

    def encode(pixels):
        together.wait(30)  # until so many batches are here
        return plain(pixels)

    towers.encode_image = encode
    paths = [photo(f"{number}.png", seed=number) for number in range(12)]
    with Embedder(repository, towers) as embedder:
        assert len(embedder.embed_images(paths)) == 12
