"""The reload benchmark's publications are real ones, whose answers tell them apart."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.repository import Versions, read_versions
from vireo_client.towers.onnx import OnnxTowers

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name: str) -> Any:
    """Load a module of the benchmarks, whose folder is not on the tests' path."""
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def embed(repository: Path) -> np.ndarray:
    bundle = Bundle(repository)
    with Embedder(bundle, OnnxTowers.from_repository(bundle)) as embedder:
        return embedder.embed_texts(["hai con cá màu đỏ"])


def test_each_publication_is_a_version_and_a_bundle_of_its_own(
    repository: Bundle, test_records: list[CaptionedImage], tmp_path: Path
) -> None:
    published = tmp_path / "model_repository"
    publisher = load("publications").Publisher(repository, published, tmp_path, test_records)
    expected = embed(repository.folder)

    assert publisher.publish(negated=False) == 1
    first = Bundle(published).bundle_id
    np.testing.assert_array_equal(embed(published), expected)

    assert publisher.publish(negated=True) == 2
    assert read_versions(published) == Versions(2, (2,))
    assert Bundle(published).bundle_id != first
    np.testing.assert_array_equal(embed(published), -expected)
    # The engines that it copies stay as they were.
    np.testing.assert_array_equal(embed(repository.folder), expected)
