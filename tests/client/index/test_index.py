import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import faiss
import numpy as np
import pytest
from vireo_client.bundle import Bundle
from vireo_client.errors import SearchIndexError
from vireo_client.index.catalogue import CATALOGUE_FILE, FileStamp
from vireo_client.index.reader import Index, NewImage, recorded_model


def _unit(seed: int, dim: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(dim).astype(np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture
def image(bundle):
    dim = bundle.config.embedding_dim

    def make(name: str, seed: int, captions: int = 0, size: int = 1) -> NewImage:
        texts = tuple(f"{name} câu {i}" for i in range(captions))
        vectors = np.stack(
            [_unit(1000 * seed + i, dim) for i in range(captions)] or [_unit(0, dim)]
        )
        return NewImage(name, "0" * 64, FileStamp(size, 1), _unit(seed, dim), texts, vectors)

    return make


def test_what_is_saved_is_found_again(tmp_path, bundle, image):
    items = [image(f"{n}.jpg", n, captions=2) for n in range(1, 20)]
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add(items)
        index.save()
    with Index(tmp_path / "i", bundle) as index:
        assert (len(index), index.captions) == (19, 38)
        for number, item in enumerate(items, 1):
            (best, *_) = index.search_images(item.embedding[None], 3)[0]
            assert (best.rank, best.path, best.caption) == (1, item.path, None)
            assert best.score == pytest.approx(1, abs=1e-5)
            sentence = index.search_captions(_unit(1000 * number + 1, 256)[None], 1)[0][0]
            assert (sentence.path, sentence.caption) == (item.path, f"{item.path} câu 1")
    assert recorded_model(tmp_path / "i") == bundle.folder.resolve()


def test_hits_come_best_first_and_agree_with_brute_force(tmp_path, bundle, image):
    items = [image(f"{n}.jpg", n) for n in range(1, 60)]
    query = _unit(999, bundle.config.embedding_dim)
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add(items)
        assert index.search_images(query[None], 10) == [[]]  # what is not saved is not found
        index.save()
        matches = index.search_images(query[None], 10)[0]
    scores = {item.path: float(item.embedding @ query) for item in items}
    expected = sorted(scores, key=scores.__getitem__, reverse=True)[:10]
    assert [m.path for m in matches] == expected
    assert [m.rank for m in matches] == list(range(1, 11))


def test_a_changed_picture_replaces_its_old_vector_and_sentences(tmp_path, bundle, image):
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([image("a.jpg", 1, captions=3), image("b.jpg", 2, captions=1)])
        index.save()
        assert index.is_current("a.jpg", FileStamp(1, 1))
        assert not index.is_current("a.jpg", FileStamp(2, 1))
        index.add([image("a.jpg", 3, captions=1, size=2)])
        index.add([image("a.jpg", 4, captions=2, size=3)])  # again before saving
        index.save()
    with Index(tmp_path / "i", bundle) as index:
        assert (len(index), index.captions) == (2, 3)
        assert index.search_images(_unit(4, 256)[None], 1)[0][0].path == "a.jpg"
        assert index.search_images(_unit(1, 256)[None], 1)[0][0].score < 0.9


def test_what_was_not_saved_is_not_there(tmp_path, bundle, image):
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([image("a.jpg", 1)])
        index.save()
        index.add([image("b.jpg", 2)])
    with Index(tmp_path / "i", bundle) as index:
        assert len(index) == 1


def test_an_empty_index_answers_with_nothing(tmp_path, bundle):
    with Index(tmp_path / "i", bundle, write=True) as index:
        assert index.search_images(_unit(1, 256)[None], 5) == [[]]


def test_more_hits_than_pictures_gives_all_pictures(tmp_path, bundle, image):
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([image("a.jpg", 1), image("b.jpg", 2)])
        index.save()
        assert len(index.search_images(_unit(1, 256)[None], 50)[0]) == 2


def test_another_bundles_index_is_refused(tmp_path, bundle, image):
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([image("a.jpg", 1)])
        index.save()
    other = Bundle(bundle.folder)
    other.config = bundle.config.model_copy(update={"bundle_id": "another-bundle"})
    for write in (False, True):
        with pytest.raises(SearchIndexError, match=r"made by bundle .* is bundle another-bundle"):
            Index(tmp_path / "i", other, write=write)
    with Index(tmp_path / "i", bundle) as index:
        assert len(index) == 1


def test_a_missing_index_is_an_error(tmp_path, bundle):
    with pytest.raises(SearchIndexError, match="no index here; `vireo index` makes one"):
        Index(tmp_path / "i", bundle)
    assert not (tmp_path / "i").exists()


def test_a_folder_with_other_files_is_not_written_to(tmp_path, bundle):
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(SearchIndexError, match="holds other files"):
        Index(tmp_path, bundle, write=True)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("damage", ["delete", "truncate", "foreign"])
def test_damaged_vectors_are_an_error_not_wrong_answers(tmp_path, bundle, image, damage):
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([image("a.jpg", 1), image("b.jpg", 2)])
        index.save()
    path = tmp_path / "i" / "images-1.faiss"
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:40])
    else:  # one vector for two rows
        other = faiss.IndexIDMap2(faiss.IndexFlatIP(256))
        other.add_with_ids(_unit(1, 256)[None], np.array([1]))
        faiss.write_index(other, str(path))
    with pytest.raises(SearchIndexError, match=r"images-1\.faiss"):
        Index(tmp_path / "i", bundle)


def test_a_damaged_catalogue_is_an_error(tmp_path, bundle):
    with Index(tmp_path / "i", bundle, write=True):
        pass
    (tmp_path / "i" / CATALOGUE_FILE).write_bytes(b"not a database" * 100)
    with pytest.raises(SearchIndexError, match="not a usable catalogue"):
        Index(tmp_path / "i", bundle)


def test_an_unknown_catalogue_version_is_refused(tmp_path, bundle):
    with Index(tmp_path / "i", bundle, write=True):
        pass
    with sqlite3.connect(tmp_path / "i" / CATALOGUE_FILE) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(SearchIndexError, match="schema version 99"):
        Index(tmp_path / "i", bundle)


@pytest.mark.parametrize("left", ["writer.lock", CATALOGUE_FILE])
def test_a_writer_killed_at_its_very_start_leaves_a_usable_folder(tmp_path, bundle, image, left):
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / left).touch()
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([image("a.jpg", 1)])
        index.save()
    with Index(tmp_path / "i", bundle) as index:
        assert len(index) == 1


def test_a_file_where_the_index_should_be_is_an_error(tmp_path, bundle):
    (tmp_path / "i").touch()
    with pytest.raises(SearchIndexError, match="cannot be opened"):
        Index(tmp_path / "i", bundle, write=True)


def test_two_writers_are_one_too_many_and_readers_may_read(tmp_path, bundle, image):
    with Index(tmp_path / "i", bundle, write=True) as writer:
        writer.add([image("a.jpg", 1)])
        writer.save()
        with pytest.raises(SearchIndexError, match="another process is writing here"):
            Index(tmp_path / "i", bundle, write=True)
        with Index(tmp_path / "i", bundle) as reader:
            assert len(reader) == 1
            # The writer goes on; the reader keeps what it opened, and never mispairs.
            writer.add([image("a.jpg", 2), image("c.jpg", 3)])
            writer.save()
            assert reader.search_images(_unit(1, 256)[None], 5)[0] == []
    with Index(tmp_path / "i", bundle, write=True) as writer:
        assert len(writer) == 2


def test_a_full_disk_leaves_the_saved_index(tmp_path, bundle, image, monkeypatch):
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([image("a.jpg", 1)])
        index.save()
        index.add([image("b.jpg", 2)])

        def full(*_):
            raise RuntimeError("No space left on device")

        monkeypatch.setattr(faiss, "write_index", full)
        with pytest.raises(SearchIndexError, match=r"cannot be saved.*No space left"):
            index.save()
    with Index(tmp_path / "i", bundle) as index:
        assert len(index) == 1


_KILLED_WRITER = """
import os, signal, sys
sys.path[:0] = {path!r}
import numpy as np
from vireo_client.index import reader as module
from vireo_client.bundle import Bundle
from vireo_client.index.catalogue import Catalogue, FileStamp
from vireo_client.index.reader import Index, NewImage

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv[3]
if moment == "before-vectors":
    module.faiss.write_index = die
elif moment == "after-vectors":
    module._sync = die
elif moment == "inside-transaction":
    plain = Catalogue.add
    Catalogue.add = lambda *a: (plain(*a), die())
elif moment == "after-commit":
    Index._sweep = lambda self: die() if self._generation == 2 else None
with Index(sys.argv[1], Bundle(sys.argv[2]), write=True) as index:
    vectors = np.eye(index._dim, dtype=np.float32)
    index.add([NewImage("new.jpg", "0" * 64, FileStamp(1, 1), vectors[5]),
               NewImage("old.jpg", "0" * 64, FileStamp(2, 2), vectors[6])])
    index.save()
"""


@pytest.mark.parametrize(
    ("moment", "lasting"),
    [
        ("before-vectors", False),
        ("after-vectors", False),
        ("inside-transaction", False),
        ("after-commit", True),
    ],
)
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_index(tmp_path, bundle, moment, lasting):
    vectors = np.eye(256, dtype=np.float32)
    with Index(tmp_path / "i", bundle, write=True) as index:
        index.add([NewImage("old.jpg", "0" * 64, FileStamp(1, 1), vectors[3])])
        index.save()
    script = _KILLED_WRITER.format(path=[p for p in sys.path if p])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path / "i", bundle.folder, moment],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Index(tmp_path / "i", bundle) as index:
        paths = {index.search_images(v[None], 1)[0][0].path: n for n, v in enumerate(vectors[:8])
                 if index.search_images(v[None], 1)[0][0].score > 0.99}  # fmt: skip
    assert paths == ({"new.jpg": 5, "old.jpg": 6} if lasting else {"old.jpg": 3})
    with Index(tmp_path / "i", bundle, write=True):  # the next writer sweeps what the dead one left
        generation = 2 if lasting else 1
        left = sorted(p.name for p in Path(tmp_path / "i").glob("*.faiss"))
    assert left == [f"captions-{generation}.faiss", f"images-{generation}.faiss"]
    assert os.listdir(tmp_path / "i").count(CATALOGUE_FILE) == 1
