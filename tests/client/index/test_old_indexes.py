"""Indexes as they were written before their vector files carried a writer's id."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys

import faiss
import numpy as np
import pytest
from support.small_index import DIM, best, best_caption, new_image, unit
from vireo_client.errors import SearchIndexError
from vireo_client.index import Index, IndexWriter
from vireo_client.index.bundle_files import open_bundle
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.maintenance import info, snapshot, verify
from vireo_client.index.rows import FileStamp

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    captions_digest TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE captions (
    id INTEGER PRIMARY KEY,
    image_id INTEGER NOT NULL REFERENCES images(id) ON DELETE CASCADE,
    text TEXT NOT NULL
);
CREATE INDEX captions_by_image ON captions (image_id);
"""


@pytest.fixture
def old(tmp_path, small_bundle):
    """Generation 7: images 11 to 13 of the seeds 1 to 3, each with a caption."""
    folder = tmp_path / "i"
    folder.mkdir()
    with sqlite3.connect(folder / CATALOGUE_FILE) as db:
        db.executescript(_SCHEMA)
        meta = {
            "schema_version": 1,
            "bundle_id": small_bundle.bundle_id,
            "model": small_bundle.folder.resolve(),
            "generation": 7,
            "next_image_id": 14,
            "next_caption_id": 24,
        }
        db.executemany("INSERT INTO meta VALUES (?, ?)", [(k, str(v)) for k, v in meta.items()])
        for n in (1, 2, 3):
            row = (10 + n, f"{n}.jpg", "0" * 64, 1, 1, "", "{}")
            db.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("INSERT INTO captions VALUES (?, ?, ?)", (20 + n, 10 + n, f"câu {n}"))
    db.close()
    for kind, first, factor in (("images", 11, 1), ("captions", 21, 1000)):
        vectors = faiss.IndexIDMap2(faiss.IndexFlatIP(DIM))
        embeddings = np.stack([unit(factor * n) for n in (1, 2, 3)])
        vectors.add_with_ids(embeddings, np.arange(first, first + 3))
        faiss.write_index(vectors, str(folder / f"{kind}-7.faiss"))
    return folder


def _names(folder):
    return sorted(path.name for path in folder.glob("**/*.*") if path.suffix in (".faiss", ".npy"))


def test_an_old_index_is_opened_and_searched(old, small_bundle):
    with Index(old, small_bundle) as index:
        assert (len(index), index.captions) == (3, 3)
        assert [best(index, n) for n in (1, 2, 3)] == [(f"{n}.jpg", 1) for n in (1, 2, 3)]
        assert best_caption(index, 2000) == ("câu 2", 1)
        assert not index.refresh()
    assert open_bundle(old, engines=True).folder == small_bundle.folder.resolve()
    assert open_bundle(old, engines=False).folder == small_bundle.folder.resolve()


def test_an_old_index_is_extended_under_a_reader(old, small_bundle):
    (old / "images-6.faiss").touch()  # a dead writer's
    with Index(old, small_bundle) as index:
        with IndexWriter(old, small_bundle) as writer:
            assert len(writer) == 3
            assert writer.is_current("1.jpg", FileStamp(1, 1))
            assert _names(old) == ["captions-7.faiss", "images-7.faiss"]
            writer.add([new_image("2.jpg", 5, captions=1, size=2), new_image("4.jpg", 4)])
            writer.save()
        assert [best(index, n)[0] for n in (1, 3)] == ["1.jpg", "3.jpg"]
        assert not index.refresh()  # the search moved on by itself
        assert (len(index), index.captions) == (4, 3)
        near = {seed: best(index, seed)[0] for seed in range(1, 7) if best(index, seed)[1] > 0.99}
        assert near == {1: "1.jpg", 3: "3.jpg", 4: "4.jpg", 5: "2.jpg"}
        assert best_caption(index, 5000) == ("2.jpg câu 0", 1)
    # The old segments, and behind them what was added.
    assert sorted({name.rpartition("-")[0] for name in _names(old)}) == [
        "captions-8", "captions-9", "images-8", "images-9"
    ]  # fmt: skip
    with sqlite3.connect(old / CATALOGUE_FILE) as db:
        ids = [row[0] for row in db.execute("SELECT id FROM images ORDER BY id")]
        meta = dict(db.execute("SELECT key, value FROM meta"))
    db.close()
    assert ids == [11, 13, 14, 15]
    assert "model" not in meta
    assert meta["repository"] == "../model_repository"


def test_a_writer_makes_an_old_index_one_that_can_be_moved(old, small_bundle, tmp_path):
    """Also when there is nothing to add."""
    with IndexWriter(old, small_bundle):
        pass
    (tmp_path / "there").mkdir()
    moved = old.rename(tmp_path / "there" / "i")
    small_bundle.folder.rename(tmp_path / "there" / "model_repository")
    assert open_bundle(moved, engines=True).bundle_id == small_bundle.bundle_id
    with Index(moved, open_bundle(moved, engines=False)) as index:
        assert best(index, 1) == ("1.jpg", 1)


def test_an_old_index_whose_repository_moved_beside_it_finds_it(old, small_bundle, tmp_path):
    (tmp_path / "there").mkdir()
    moved = old.rename(tmp_path / "there" / "i")
    small_bundle.folder.rename(tmp_path / "there" / "model_repository")
    assert open_bundle(moved, engines=True).bundle_id == small_bundle.bundle_id


_KILLED_CONVERSION = """
import json, os, signal, sys
sys.path[:0] = json.loads(sys.argv[4])
from support.small_index import new_image
from vireo_client.bundle import Bundle
from vireo_client.index import IndexWriter, committed, storage
from vireo_client.index.writable import WritableCatalogue

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

plain = WritableCatalogue.add_segments
with IndexWriter(sys.argv[1], Bundle(sys.argv[2])) as writer:
    writer.add([new_image("4.jpg", 4)])
    if sys.argv[3] == "before-the-segments":
        storage._write_array = die
    elif sys.argv[3] == "inside-the-transaction":
        WritableCatalogue.add_segments = lambda *words: (plain(*words), die())
    else:
        committed.sweep_legacy = die
    writer.save()
"""


@pytest.mark.parametrize(
    ("moment", "version"),
    [("before-the-segments", 1), ("inside-the-transaction", 1), ("before-the-sweep", 2)],
)
def test_a_kill_while_an_old_index_is_converted_leaves_the_old_or_the_new_one(
    old, small_bundle, moment, version
):
    with Index(old, small_bundle) as beside:
        done = subprocess.run(
            [sys.executable, "-c", _KILLED_CONVERSION, old, small_bundle.folder, moment,
             json.dumps([*sys.path, os.getcwd()])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        with Index(old, small_bundle) as fresh:
            for index in (beside, fresh):
                assert [best(index, n) for n in (1, 2, 3)] == [(f"{n}.jpg", 1) for n in (1, 2, 3)]
                assert best_caption(index, 2000) == ("câu 2", 1)
    assert info(old).schema == version
    assert verify(old).is_whole
    with IndexWriter(old, small_bundle) as writer:  # the journal had the image that was added
        assert len(writer) == 4
    assert info(old).schema == 2
    assert not list(old.glob("*.faiss"))
    with Index(old, small_bundle) as index:
        assert best(index, 4) == ("4.jpg", 1)
        assert index.search_words("cau 2", 1)[0].path == "2.jpg"
        assert index.search_images(unit(1)[None], 3, filter="name = '3.jpg'")[0][0].path == "3.jpg"


def test_an_old_index_is_told_of_verified_and_copied(old, small_bundle, tmp_path):
    told = info(old)
    assert (told.images, told.captions, told.schema, told.kinds["images"]) == (3, 3, 1, "flat")
    assert verify(old).is_whole
    snapshot(old, tmp_path / "copy")
    with Index(tmp_path / "copy", small_bundle) as index:
        assert best(index, 3) == ("3.jpg", 1)
        with pytest.raises(SearchIndexError, match="before images had metadata"):
            index.search_words("câu", 3)
    path = old / "images-7.faiss"
    path.write_bytes(path.read_bytes()[:50])
    assert verify(old).problems
    with pytest.raises(SearchIndexError, match="index the images again"):
        verify(old, repair=True)


def _mapped(inner, vectors, ids=(11, 12, 13)):
    index = faiss.IndexIDMap2(inner)
    index.add_with_ids(vectors.astype(np.float32), np.array(ids))
    return index


def _plain(inner, vectors):
    inner.add(vectors)
    return inner


_VECTORS = np.stack([unit(n) for n in (1, 2, 3)])
_MADE_UP = {
    "no ids": lambda: _plain(faiss.IndexFlatIP(DIM), _VECTORS),
    "half precision": lambda: _mapped(
        faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT),
        _VECTORS,
    ),
    "a graph": lambda: _mapped(faiss.IndexHNSWFlat(DIM, 4), _VECTORS),
    "hashes": lambda: _mapped(faiss.IndexLSH(DIM, DIM), _VECTORS),
    "vectors twice": lambda: _mapped(faiss.IndexRefineFlat(faiss.IndexFlatIP(DIM)), _VECTORS),
    "too few": lambda: _mapped(faiss.IndexFlatIP(DIM), _VECTORS[:2], (11, 12)),
    "too many": lambda: _mapped(
        faiss.IndexFlatIP(DIM), np.concatenate([_VECTORS, _VECTORS[:1]]), (11, 12, 13, 14)
    ),
    "another size": lambda: _mapped(faiss.IndexFlatIP(DIM + 1), np.pad(_VECTORS, ((0, 0), (0, 1)))),
    "NaN": lambda: _mapped(faiss.IndexFlatIP(DIM), np.full((3, DIM), np.nan)),
    "infinity": lambda: _mapped(faiss.IndexFlatIP(DIM), np.full((3, DIM), np.inf)),
    "zeros": lambda: _mapped(faiss.IndexFlatIP(DIM), np.zeros((3, DIM))),
    "large numbers": lambda: _mapped(faiss.IndexFlatIP(DIM), 4e36 * _VECTORS),
    "an id twice": lambda: _mapped(faiss.IndexFlatIP(DIM), _VECTORS, (11, 12, 12)),
    "other ids": lambda: _mapped(faiss.IndexFlatIP(DIM), _VECTORS, (11, 12, 99)),
}


@pytest.mark.parametrize("made_up", _MADE_UP)
def test_vectors_that_another_program_made_up_are_refused(old, small_bundle, made_up):
    faiss.write_index(_MADE_UP[made_up](), str(old / "images-7.faiss"))
    for opened in (Index, IndexWriter):
        with pytest.raises(SearchIndexError):
            opened(old, small_bundle)


def test_an_old_index_without_its_generation_is_not_an_empty_one(old, small_bundle):
    before = _names(old)
    with sqlite3.connect(old / CATALOGUE_FILE) as db:
        db.execute("DELETE FROM meta WHERE key = 'generation'")
    db.close()
    for opened in (Index, IndexWriter):
        with pytest.raises(SearchIndexError, match="generation"):
            opened(old, small_bundle)
    assert _names(old) == before


@pytest.mark.parametrize("seed", range(20))
def test_flipped_bytes_of_old_vectors_are_refused_or_do_no_harm(old, small_bundle, seed):
    draw, path = random.Random(seed), old / "images-7.faiss"
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    try:
        with Index(old, small_bundle) as index:
            found = [best(index, n) for n in (1, 2, 3)]
    except SearchIndexError:
        return
    # A vector's checksum was not written then: its last digits may differ.
    assert [path for path, _ in found] == ["1.jpg", "2.jpg", "3.jpg"]
    assert all(0.98 < score < 1.01 for _, score in found)
