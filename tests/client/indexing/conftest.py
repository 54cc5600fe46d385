from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from vireo_client.embedder import Embedder
from vireo_client.index import IndexWriter
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.towers.onnx import OnnxTowers


@pytest.fixture(scope="session")
def embedder(repository):
    with Embedder(repository, OnnxTowers.from_repository(repository, max_batch_size=8)) as value:
        yield value


@pytest.fixture
def index_source(tmp_path, embedder):
    """Return a function that indexes a source to `i`, as the command does."""

    def run(source, *, allow_outside=False, folder=tmp_path / "i", **options):
        records, skipped = list_images(
            source,
            allow_empty=options.get("allow_empty", False),
            allow_outside=allow_outside,
        )
        with IndexWriter(folder, embedder.bundle) as writer:
            report = index_images(writer, embedder, records, source=source, **options)
        report.skipped = skipped + report.skipped
        return report

    return run


@pytest.fixture
def catalogue(tmp_path):
    """Return a function that reads id, hash and time of every image of the index `i`, by path."""

    def read(folder=tmp_path / "i"):
        with closing(sqlite3.connect(folder / CATALOGUE_FILE)) as db:
            rows = db.execute("SELECT path, id, sha256, mtime_ns FROM images").fetchall()
        return {path: tuple(row) for path, *row in rows}

    return read
