"""What a save costs: in proportion to what was added, not to what is there."""

import numpy as np
import pytest
from support.small_index import DIM, new_image, write_small_bundle
from vireo_client.index import Index, IndexWriter, NewImage
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.rows import FileStamp

_THERE = 20_000
_ADDED = 100


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    bundle = write_small_bundle(folder / "model_repository")
    vectors = np.random.default_rng(0).standard_normal((_THERE, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with IndexWriter(folder / "i", bundle) as writer:
        writer.add(
            [
                NewImage(f"/photos/{n:06}.jpg", "0" * 64, FileStamp(1, 1), vector)
                for n, vector in enumerate(vectors)
            ]
        )
        writer.save()
    return folder / "i", bundle


def _sizes(folder):
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def test_a_save_writes_in_proportion_to_what_was_added(large, monkeypatch):
    folder, bundle = large
    before = _sizes(folder)
    pages = []
    with IndexWriter(folder, bundle) as writer:
        writer.add([new_image(f"/new/{n}.jpg", n + 1) for n in range(_ADDED)])
        writer.remove([f"/photos/{n:06}.jpg" for n in range(0, _THERE, _THERE // 10)])
        journal = sum(p.stat().st_size for p in folder.glob("journal-*"))
        # The rollback journal holds each page that the transaction changed, as it was.
        plain = writer._committed.catalogue.set_state

        def set_state(state):
            plain(state)
            rollback = folder / f"{CATALOGUE_FILE}-journal"
            pages.append(rollback.stat().st_size if rollback.is_file() else 0)

        monkeypatch.setattr(writer._committed.catalogue, "set_state", set_state)
        writer.save()
    after = _sizes(folder)
    assert all(after[path] == before[path] for path in before if path.suffix == ".npy")
    new = {path.name: size for path, size in after.items() if path not in before}
    assert len(new) == 3
    vectors = _ADDED * (4 * DIM + 8 + 4)
    assert sum(new.values()) == vectors + 3 * 128
    catalogue = folder / CATALOGUE_FILE
    grown = after[catalogue] - before[catalogue]
    assert grown + sum(pages) + journal < 20 * vectors < before[catalogue] / 2
    with Index(folder, bundle) as index:
        assert len(index) == _THERE + _ADDED - 10


def test_opening_and_counting_read_no_row_of_the_images(large):
    """SQLite tells which statements a connection runs: none of them goes through a table."""
    folder, bundle = large
    with Index(folder, bundle) as index, IndexWriter(folder, bundle) as writer:
        for catalogue in (index._opened.catalogue, writer._committed.catalogue):
            statements = []
            catalogue._db.set_trace_callback(statements.append)
            catalogue.layout()
            catalogue._db.set_trace_callback(None)
            assert len(statements) > 3
            assert not [s for s in statements if "FROM images" in s or "FROM captions" in s]
        statements = []
        writer._committed.catalogue._db.set_trace_callback(statements.append)
        assert len(writer) > 0
        assert writer.is_current("/photos/000001.jpg", FileStamp(1, 1))
        writer._committed.catalogue._db.set_trace_callback(None)
        assert len(statements) == 1
        assert statements[0].endswith("WHERE path = '/photos/000001.jpg'")
