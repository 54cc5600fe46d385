"""Both clients behind one face, so that one test holds for both; and a small index of photos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage
from vireo_client.embedder import Embedder
from vireo_client.index import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.search import SearchClient
from vireo_client.towers.onnx import OnnxTowers

CLIENTS = ("threads",)


def write_photo_index(folder: Path, repository: Bundle) -> Path:
    """Writes six images with a caption each (`photos/0.png`: "ảnh số 0") and their index."""
    (folder / "photos").mkdir()
    records = []
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        path = folder / "photos" / f"{number}.png"
        Image.fromarray(noise).resize((80, 60), Image.Resampling.BICUBIC).save(path)
        records.append(CaptionedImage(path, (f"ảnh số {number}",)))
    with (
        Embedder(repository, OnnxTowers.from_repository(repository)) as embedder,
        IndexWriter(folder / "index", repository) as writer,
    ):
        index_images(writer, embedder, records)
    return folder / "index"


@contextmanager
def open_client(kind: str, index: Path, **options: Any) -> Iterator[Any]:
    """Opens a client."""
    with SearchClient(index, **options) as client:
        yield client
