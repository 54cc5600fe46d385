from __future__ import annotations

import pytest
from vireo_client.embedder import Embedder
from vireo_client.index import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.towers.onnx import OnnxTowers


@pytest.fixture(scope="session")
def shared_embedder(repository):
    with Embedder(repository, OnnxTowers.from_repository(repository, max_batch_size=8)) as value:
        yield value


@pytest.fixture
def index_source(tmp_path, shared_embedder):
    """Return a function that indexes a source to `i`, as the command does."""

    def run(source, *, allow_outside=False, folder=tmp_path / "i", **options):
        records, skipped = list_images(source, allow_outside=allow_outside)
        with IndexWriter(folder, shared_embedder.bundle) as writer:
            report = index_images(writer, shared_embedder, records, source=source, **options)
        report.skipped = skipped + report.skipped
        return report

    return run
