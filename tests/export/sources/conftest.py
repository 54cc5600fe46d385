"""Images of each kind that the libraries preprocess in a different way, and tiny models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.tiny_models import HUGGINGFACE, OPEN_CLIP
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.towers.onnx import OnnxTowers
from vireo_export.export import export
from vireo_training.models.torch_towers import TorchTowers
from vireo_training.sources import Source, open_source


def _scene(width: int, height: int, channels: int = 3, seed: int = 0) -> Image.Image:
    """Return an image with edges and gradients."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 11, channels), dtype=np.uint8)
    return Image.fromarray(coarse.squeeze()).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    scenes = {
        "photo.jpg": _scene(403, 301),
        "wide.jpg": _scene(611, 97, seed=1),
        "tall.png": _scene(61, 415, seed=2),
        "small.png": _scene(17, 23, seed=3),
        "exact.png": _scene(32, 32, seed=4),
        "grey.jpg": _scene(133, 201, 1, seed=5),
        "clear.png": _scene(119, 90, 4, seed=6),
    }
    for name, image in scenes.items():
        image.save(folder / name)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    _scene(150, 100, seed=7).save(folder / "turned.jpg", exif=exif)
    return sorted(folder.iterdir())


class Example:
    """A tiny model, opened as a source, and exported on first use."""

    def __init__(self, model: Path, records: list[CaptionedImage]) -> None:
        self.model = model
        self.source = open_source(model)
        self._records = records

    @cached_property
    def repository(self) -> Bundle:
        export(self.source, self.model.parent / "repository", self._records)
        return Bundle(self.model.parent / "repository")

    def in_torch(self) -> Embedder:
        towers = TorchTowers(self.source.text_tower, self.source.image_tower)
        return Embedder(self.source.bundle, towers)

    def in_onnx(self) -> Embedder:
        return Embedder(self.repository, OnnxTowers.from_repository(self.repository))


@pytest.fixture(scope="module")
def model(example: Example) -> Path:
    """The folder of the model; a test module defines its own `example`."""
    return example.model


@pytest.fixture(scope="module")
def source(example: Example) -> Source:
    return example.source


@pytest.fixture(scope="session")
def example_of(
    tmp_path_factory: pytest.TempPathFactory, test_records: list[CaptionedImage]
) -> Callable[[str], Example]:
    """Create the example of `hf/FAMILY` or `open_clip/FAMILY`, once a session."""

    @cache
    def make(name: str) -> Example:
        library, _, family = name.partition("/")
        writers = {"hf": HUGGINGFACE, "open_clip": OPEN_CLIP}[library]
        return Example(writers[family](tmp_path_factory.mktemp(library) / family), test_records[:4])

    return make
