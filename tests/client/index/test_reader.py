import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from support.small_index import new_image, unit, write_index, write_small_bundle
from vireo_client.errors import DataError, SearchIndexError
from vireo_client.index import Index, IndexWriter
from vireo_client.index.catalogue import CATALOGUE_FILE, Catalogue


def test_what_is_saved_is_found_again(tmp_path, small_bundle):
    images = [new_image(f"{n}.jpg", n, captions=2) for n in range(1, 20)]
    write_index(tmp_path / "i", small_bundle, *images)
    with Index(tmp_path / "i", small_bundle) as index:
        assert (len(index), index.captions) == (19, 38)
        for number, image in enumerate(images, 1):
            (match, *_) = index.search_images(image.embedding[None], 3)[0]
            assert (match.rank, match.path, match.caption) == (1, image.path, None)
            assert match.score == pytest.approx(1, abs=1e-5)
            caption = index.search_captions(unit(1000 * number + 1)[None], 1)[0][0]
            assert (caption.path, caption.caption) == (image.path, f"{image.path} câu 1")


def test_hits_come_best_first_and_agree_with_brute_force(tmp_path, small_bundle):
    images = [new_image(f"{n}.jpg", n) for n in range(1, 60)]
    write_index(tmp_path / "i", small_bundle, *images)
    query = unit(999)
    with Index(tmp_path / "i", small_bundle) as index:
        matches = index.search_images(query[None], 10)[0]
    scores = {image.path: float(image.embedding @ query) for image in images}
    expected = sorted(scores, key=scores.__getitem__, reverse=True)[:10]
    assert [m.path for m in matches] == expected
    assert [m.rank for m in matches] == list(range(1, 11))


@pytest.mark.parametrize("k", [0, -1, "5", None, 2.0, True, np.int64(0), np.bool_(True)])
@pytest.mark.parametrize("captions", [0, 1])
def test_a_k_that_counts_nothing_is_refused(tmp_path, small_bundle, k, captions):
    write_index(tmp_path / "i", small_bundle, new_image("1.jpg", 1, captions=captions))
    with Index(tmp_path / "i", small_bundle) as index:
        for search in (index.search_images, index.search_captions):
            with pytest.raises(DataError, match=r"k is .*; give the number of matches"):
                search(unit(1)[None], k)
        assert len(index.search_images(unit(1)[None], np.int32(3))[0]) == 1


def test_an_empty_index_answers_with_nothing(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle)
    with Index(tmp_path / "i", small_bundle) as index:
        assert len(index) == 0
        assert index.search_images(np.stack([unit(1), unit(2)]), 5) == [[], []]


def test_more_hits_than_images_gives_all_images(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1), new_image("b.jpg", 2))
    with Index(tmp_path / "i", small_bundle) as index:
        assert len(index.search_images(unit(1)[None], 50)[0]) == 2


def test_another_bundles_index_is_refused(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1))
    other = write_small_bundle(tmp_path / "other", "another-bundle")
    for kind in (Index, IndexWriter):
        with pytest.raises(SearchIndexError, match=r"made by bundle .* is bundle another-bundle"):
            kind(tmp_path / "i", other)
    with Index(tmp_path / "i", small_bundle) as index:
        assert len(index) == 1


def test_a_missing_index_is_an_error(tmp_path, small_bundle):
    with pytest.raises(SearchIndexError, match="no index here; `vireo index` makes one"):
        Index(tmp_path / "i", small_bundle)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("damage", ["delete", "truncate", "another size", "another array"])
@pytest.mark.parametrize("half", ["ids", "vectors"])
def test_damaged_vectors_are_an_error_not_wrong_answers(tmp_path, small_bundle, damage, half):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1), new_image("b.jpg", 2))
    (path,) = (tmp_path / "i" / "segments").glob(f"images-1-*.{half}.npy")
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "another size":  # one vector for two rows
        np.save(path, np.load(path)[:1])
    else:  # of the same size
        data = bytearray(path.read_bytes())
        data[data.index(b"'<") + 1 : data.index(b"'<") + 2] = b">"
        path.write_bytes(data)
    with pytest.raises(SearchIndexError, match=rf"{path.name}.*vireo index verify"):
        Index(tmp_path / "i", small_bundle)


def test_a_damaged_catalogue_is_an_error(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle)
    (tmp_path / "i" / CATALOGUE_FILE).write_bytes(b"not a database" * 100)
    for kind in (Index, IndexWriter):
        with pytest.raises(SearchIndexError, match="not a usable catalogue"):
            kind(tmp_path / "i", small_bundle)


def test_an_unknown_catalogue_version_is_refused(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle)
    with sqlite3.connect(tmp_path / "i" / CATALOGUE_FILE) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    for kind in (Index, IndexWriter):
        with pytest.raises(SearchIndexError, match="schema version 99"):
            kind(tmp_path / "i", small_bundle)


def test_a_closed_index_says_so(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1))
    with Index(tmp_path / "i", small_bundle) as index:
        pass
    index.close()
    for use in (index.refresh, lambda: index.search_images(unit(1)[None], 1)):
        with pytest.raises(SearchIndexError, match="the index is closed"):
            use()


def test_without_faiss_the_error_names_what_to_install(tmp_path):
    (tmp_path / "faiss.py").write_text("raise ModuleNotFoundError('no faiss', name='faiss')")
    done = subprocess.run(
        [sys.executable, "-c", "from vireo_client import Index"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "MissingExtraError: faiss is not installed" in done.stderr
    assert "pip install 'vireo[cpu]'" in done.stderr


def test_a_reader_cannot_write(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1))
    with Index(tmp_path / "i", small_bundle) as index:
        assert not hasattr(index, "add")
        assert not hasattr(index, "save")
    catalogue = Catalogue(tmp_path / "i" / CATALOGUE_FILE)
    assert not hasattr(catalogue, "transaction")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        catalogue._db.execute("DELETE FROM images")
    catalogue.close()
