"""Models that others trained, from a string and a file through a real Triton."""

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support.tiny_models import SENTENCES
from vireo_client.embedder import Embedder
from vireo_client.repository import EMBED_IMAGE, EMBED_TEXT
from vireo_client.towers.triton import TritonTowers
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer


def _embed(client, model, rows):
    """Hands strings or files as they are to an ensemble."""
    tensor = grpc.InferInput(model.removeprefix("embed_"), [len(rows), 1], "BYTES")
    tensor.set_data_from_numpy(np.array(rows, dtype=object).reshape(-1, 1))
    return client.infer(model, [tensor]).as_numpy("embedding")


@pytest.mark.parametrize("name", ["hf/clip", "open_clip/nllb"])
def test_vectors_through_triton_are_the_models(example_of, pictures, name):
    example = example_of(name)
    with example.in_torch() as reference:
        texts, images = reference.embed_texts(SENTENCES), reference.embed_images(pictures)
    with TritonServer(example.repository.folder, ports=Ports(0, 0, 0)) as server:
        with Embedder(example.repository, TritonTowers(example.repository, server.url)) as embedder:
            assert np.abs(embedder.embed_texts(SENTENCES) - texts).max() < 1e-4
            assert np.abs(embedder.embed_images(pictures) - images).max() < 1e-4
        with grpc.InferenceServerClient(server.url) as client:
            files = [path.read_bytes() for path in pictures]
            assert np.abs(_embed(client, EMBED_IMAGE, files) - images).max() < 1e-4
            said = [n for n, text in enumerate(SENTENCES) if text.strip()]
            strings = [SENTENCES[n].encode() for n in said]
            assert np.abs(_embed(client, EMBED_TEXT, strings) - texts[said]).max() < 1e-4
