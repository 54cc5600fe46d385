"""Fixtures that all tests share. They write the data that they need: none is checked in.

What needs torch or the server is imported by the fixtures that use it: the client's tests run
without either.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from support.data_folder import data_file
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, read_captions

if TYPE_CHECKING:
    from vireo_serving.server.server import TritonServer

pytest_plugins = ["support.tensorrt"]

# No test may depend on what a network or this user's cache holds.
os.environ["VIREO_OFFLINE"] = "1"
# Before torch and ONNX Runtime are loaded, here and in programs under test; see torch_settings.py.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the files that programs under test leave in the temporary folder, such as logs."""
    folder = str(tmp_path_factory.mktemp("tmp"))
    os.environ["TMPDIR"] = tempfile.tempdir = folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos, captions and weights; its tests are skipped where it is absent."""
    return data_file()


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Write an image with something in it."""

    def write(name: str = "photo.jpg", size: tuple[int, int] = (120, 90), seed: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
        return path

    return write


@pytest.fixture
def data_set(tmp_path: Path, photo: Callable[..., Path]) -> Callable[..., Path]:
    """Write a captions file with the given lines (objects, or raw text for broken ones)."""

    def write(*lines: object, images: tuple[str, ...] = ()) -> Path:
        for number, name in enumerate(images):
            photo(name, seed=number)
        text = "\n".join(
            line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)
            for line in lines
        )
        path = tmp_path / "captions.jsonl"
        path.write_text(text + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated data set: `train` with 192 images, `test` with 48."""
    from vireo_training.data.scenes import write_scenes

    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder / "train", "train", 192, seed=7)
    write_scenes(folder / "test", "test", 48, seed=7)
    return folder


@pytest.fixture(scope="session")
def test_records(scenes: Path) -> list[CaptionedImage]:
    return read_captions(scenes / "test").records


@pytest.fixture(scope="session")
def run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a bundle that was really trained, if briefly."""
    import support.torch_settings  # noqa: F401
    from vireo_training.loop.train import train
    from vireo_training.presets import load_config

    folder = tmp_path_factory.mktemp("run")
    settings = ["epochs=10", "batch_size=32", "text.layers=1", "validation_fraction=0.2"]
    train(load_config("scenes", settings), scenes / "train", folder)
    return folder


@pytest.fixture(scope="session")
def bundle(run: Path) -> Bundle:
    return Bundle(run / "bundle")


@pytest.fixture(scope="session")
def repository(run: Path, bundle: Bundle, test_records: list[CaptionedImage]) -> Bundle:
    """The bundle's model repository, exported through the parity gate."""
    from vireo_export.export import export
    from vireo_training.sources import open_source

    export(open_source(bundle.folder), run / "model_repository", test_records)
    return Bundle(run / "model_repository")


@pytest.fixture(scope="session")
def triton(repository: Bundle) -> Iterator[TritonServer]:
    """A real Triton that serves `repository` on free ports."""
    from vireo_serving.server.ports import Ports
    from vireo_serving.server.server import TritonServer

    with TritonServer(repository.folder, ports=Ports(0, 0, 0)) as server:
        yield server
