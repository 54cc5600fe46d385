"""Models of other libraries behind a real Triton, from a string and a file to an embedding."""

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support.tiny_models import TEXTS
from vireo_client.embedder import Embedder
from vireo_client.repository import EMBED_IMAGE, EMBED_TEXT
from vireo_client.towers.triton import TritonTowers
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer


def _embed(client, model, rows):
    """Send strings or files unprocessed to an ensemble."""
    tensor = grpc.InferInput(model.removeprefix("embed_"), [len(rows), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(rows, dtype=object).reshape(-1, 1))
    return client.infer(model, [tensor]).as_numpy("embedding")


@pytest.mark.parametrize("name", ["hf/clip", "open_clip/nllb"])
def test_embeddings_through_triton_equal_the_models(example_of, images, name):
    example = example_of(name)
    with example.in_torch() as reference:
        expected_texts = reference.embed_texts(TEXTS, allow_unknown=True)
        expected_images = reference.embed_images(images)
    with TritonServer(example.repository.folder, ports=Ports(0, 0, 0)) as server:
        with Embedder(example.repository, TritonTowers(example.repository, server.url)) as embedder:
            assert (
                np.abs(embedder.embed_texts(TEXTS, allow_unknown=True) - expected_texts).max()
                < 1e-4
            )
            assert np.abs(embedder.embed_images(images) - expected_images).max() < 1e-4
        with grpc.InferenceServerClient(server.url) as client:
            files = [path.read_bytes() for path in images]
            assert np.abs(_embed(client, EMBED_IMAGE, files) - expected_images).max() < 1e-4
            rows = [n for n, text in enumerate(TEXTS) if text.strip()]
            strings = [TEXTS[n].encode() for n in rows]
            assert np.abs(_embed(client, EMBED_TEXT, strings) - expected_texts[rows]).max() < 1e-4
