"""A model that others trained, from a string and a file through a real Triton."""

import numpy as np
import pytest
from tiny_models import SENTENCES
from vireo_client.embedder import Embedder
from vireo_client.towers.triton import TritonTowers
from vireo_export.server import Ports, TritonServer


@pytest.mark.parametrize("name", ["hf/clip", "open_clip/nllb"])
def test_vectors_through_triton_are_the_models(example_of, pictures, name):
    made = example_of(name)
    with made.in_torch() as reference:
        texts, images = reference.embed_texts(SENTENCES), reference.embed_images(pictures)
    with TritonServer(made.repository.folder, ports=Ports(0, 0, 0)) as server:
        with Embedder(made.repository, TritonTowers(made.repository, server.url)) as embedder:
            assert np.abs(embedder.embed_texts(SENTENCES) - texts).max() < 1e-4
            assert np.abs(embedder.embed_images(pictures) - images).max() < 1e-4
