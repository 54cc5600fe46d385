"""A reader beside writers: it answers from the newest state, and from one state whole."""

import json
import shutil
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest
from support.small_index import best, best_caption, new_image, unit, write_index, write_small_bundle
from vireo_client.errors import SearchIndexError
from vireo_client.index import Index, IndexWriter, reader
from vireo_client.index.catalogue import CATALOGUE_FILE


def _write_anew(folder, bundle, *images):
    shutil.rmtree(folder)
    write_index(folder, bundle, *images)


def test_a_search_answers_from_the_newest_state_whole(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1, captions=1), new_image("b.jpg", 2, captions=1)])
        writer.save()
        with Index(tmp_path / "i", small_bundle) as index:
            writer.add([new_image("a.jpg", 3, captions=2), new_image("c.jpg", 4, captions=1)])
            # Nothing was saved: the old state is whole.
            assert not index.refresh()
            assert best(index, 1) == ("a.jpg", 1)
            assert len(index.search_images(unit(1)[None], 5)[0]) == 2
            writer.save()
            assert {m.path for m in index.search_images(unit(1)[None], 5)[0]} == {
                "a.jpg", "b.jpg", "c.jpg"
            }  # fmt: skip
            assert len(index.search_captions(unit(1000)[None], 5)[0]) == 4
            assert not index.refresh()  # the search did that
            assert (len(index), index.captions) == (3, 4)
            assert [best(index, n) for n in (2, 3, 4)] == [
                ("b.jpg", 1), ("a.jpg", 1), ("c.jpg", 1)
            ]  # fmt: skip
            assert best_caption(index, 3001) == ("a.jpg câu 1", 1)


def test_a_refresh_moves_a_reader_without_a_search(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.save()
        with Index(tmp_path / "i", small_bundle) as index:
            writer.add([new_image("a.jpg", 1, captions=1)])
            writer.save()
            assert (len(index), index.captions) == (0, 0)
            assert index.refresh()
            assert (len(index), index.captions) == (1, 1)


def test_an_empty_index_that_is_filled_is_searched(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle)
    with Index(tmp_path / "i", small_bundle) as index:
        assert index.search_images(unit(1)[None], 5) == [[]]
        write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1, captions=1))
        assert best_caption(index, 1000) == ("a.jpg câu 0", 1)


def test_a_save_between_vectors_and_rows_makes_a_search_start_anew(
    tmp_path, small_bundle, monkeypatch
):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image(f"{n}.jpg", n, captions=1) for n in range(1, 6)])
        writer.save()
        plain, saves = reader.nearest, []

        def then_save(*words):
            hits = plain(*words)
            if len(saves) < 3:
                saves.append(hits)
                new = 10 * len(saves)
                writer.add([new_image(f"{n}.jpg", new + n, captions=1) for n in range(1, 6)])
                writer.save()
            return hits

        monkeypatch.setattr(reader, "nearest", then_save)
        with Index(tmp_path / "i", small_bundle) as index:
            (matches,) = index.search_images(unit(31)[None], 20)
            assert len(matches) == 5
            assert (matches[0].path, round(matches[0].score, 5)) == ("1.jpg", 1)
            assert len(saves) == 3


def test_while_one_thread_reads_a_newer_state_others_are_answered_from_the_older(
    tmp_path, small_bundle, monkeypatch
):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1), new_image("b.jpg", 2)])
        writer.save()
        with Index(tmp_path / "i", small_bundle) as index:
            writer.add([new_image("c.jpg", 3)])
            writer.save()
            plain, loading, searched = reader.load_vectors, threading.Event(), threading.Event()

            def load(*words):
                loading.set()
                assert searched.wait(10)
                return plain(*words)

            monkeypatch.setattr(reader, "load_vectors", load)
            thread = threading.Thread(target=index.refresh)
            thread.start()
            assert loading.wait(10)
            assert len(index.search_images(unit(3)[None], 5)[0]) == 2
            searched.set()
            thread.join()
            assert best(index, 3) == ("c.jpg", 1)


def test_a_row_that_is_missing_is_an_error_not_a_shorter_answer(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1), new_image("b.jpg", 2))
    with Index(tmp_path / "i", small_bundle) as index:
        with sqlite3.connect(tmp_path / "i" / CATALOGUE_FILE) as db:
            db.execute("DELETE FROM images WHERE path = 'a.jpg'")
        with pytest.raises(SearchIndexError, match="no row for 1 of its embeddings"):
            index.search_images(unit(1)[None], 5)


def test_a_refresh_that_fails_leaves_the_reader_as_it_was(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1))
    with Index(tmp_path / "i", small_bundle) as index:
        write_index(tmp_path / "i", small_bundle, new_image("b.jpg", 2))
        (newest,) = (tmp_path / "i" / "segments").glob("images-2-*.vectors.npy")
        newest.unlink()
        with pytest.raises(SearchIndexError, match=newest.name):
            index.refresh()
        assert len(index) == 1
        with pytest.raises(SearchIndexError, match=newest.name):  # no answer of the past
            best(index, 1)
        _write_anew(tmp_path / "i", small_bundle, new_image("c.jpg", 3))
        assert best(index, 3) == ("c.jpg", 1)


def test_an_index_that_was_deleted_and_made_anew_is_followed(tmp_path, small_bundle):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1))
    with Index(tmp_path / "i", small_bundle) as index:
        for search in (index.refresh, lambda: best(index, 2)):
            _write_anew(tmp_path / "i", small_bundle, new_image("b.jpg", 2))
            search()
            assert [m.path for m in index.search_images(unit(1)[None], 5)[0]] == ["b.jpg"]
        shutil.rmtree(tmp_path / "i")
        for use in (index.refresh, lambda: best(index, 2)):
            with pytest.raises(SearchIndexError, match="the index was deleted"):
                use()
        write_index(tmp_path / "i", small_bundle, new_image("c.jpg", 3))
        assert best(index, 3) == ("c.jpg", 1)
    with pytest.raises(SearchIndexError, match="the index is closed"):
        index.refresh()


def test_a_search_goes_on_when_another_thread_moves_to_a_new_file(
    tmp_path, small_bundle, monkeypatch
):
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1))
    plain, replaced = reader.nearest, []

    def then_replace(*words):
        hits = plain(*words)
        if not replaced:
            replaced.append(hits)
            _write_anew(tmp_path / "i", small_bundle, new_image("b.jpg", 2))
            assert index.refresh()
        return hits

    monkeypatch.setattr(reader, "nearest", then_replace)
    with Index(tmp_path / "i", small_bundle) as index:
        assert best(index, 2) == ("b.jpg", 1)


def test_an_index_of_another_bundle_in_its_place_is_refused(tmp_path, small_bundle):
    other = write_small_bundle(tmp_path / "other", "another-bundle")
    write_index(tmp_path / "i", small_bundle, new_image("a.jpg", 1))
    with Index(tmp_path / "i", small_bundle) as index:
        _write_anew(tmp_path / "i", other, new_image("b.jpg", 1))
        for use in (index.refresh, lambda: best(index, 1)):
            with pytest.raises(SearchIndexError, match="made by bundle another-bundle"):
                use()


_SAVES = 40


_NAMES = 12


_BUSY_WRITER = """
import json, sys
sys.path[:0] = json.loads(sys.argv[3])
from support.small_index import new_image
from vireo_client.bundle import Bundle
from vireo_client.index import IndexWriter

sys.stdin.readline()
with IndexWriter(sys.argv[1], Bundle(sys.argv[2])) as writer:
    for version in range(1, {saves} + 1):
        # Two names get new embeddings, and one name more is there.
        numbers = {{version % {names}, (5 * version) % {names}, {names} + version}}
        writer.add([new_image(f"{{n}}.jpg", 100 * version + n, captions=2) for n in numbers])
        writer.save()
"""


def _pairs_are_right(index, version, seen):
    """Search for the embeddings of one version; whoever has one must be of its name."""
    numbers = range(_NAMES + _SAVES + 1)
    seeds = [100 * version + n for n in numbers]
    images = np.stack([unit(s) for s in seeds])
    for n, row in zip(numbers, index.search_images(images, 1), strict=True):
        for match in row:
            if match.score > 0.99:
                seen.append(version)
                assert match.path == f"{n}.jpg"
    captions = np.stack([unit(1000 * s + 1) for s in seeds])
    for n, row in zip(numbers, index.search_captions(captions, 1), strict=True):
        for match in row:
            if match.score > 0.99:
                assert (match.path, match.caption) == (f"{n}.jpg", f"{n}.jpg câu 1")


def test_readers_that_refresh_beside_a_writer_never_mix_two_states(tmp_path, small_bundle):
    """A writer in another process saves as fast as it can; threads search and one refreshes."""
    folder = tmp_path / "i"
    write_index(
        folder, small_bundle, *(new_image(f"{n}.jpg", n, captions=2) for n in range(_NAMES))
    )
    code = _BUSY_WRITER.format(saves=_SAVES, names=_NAMES)
    words = [sys.executable, "-c", code, folder, small_bundle.folder, json.dumps(sys.path)]
    seen, errors, done = [], [], threading.Event()
    with Index(folder, small_bundle) as index:
        _pairs_are_right(index, 0, seen)
        assert len(seen) == _NAMES

        def search(start):
            try:
                version = start
                while not done.is_set():
                    _pairs_are_right(index, version % (_SAVES + 1), seen)
                    version += 1
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=search, args=(start,)) for start in (0, _SAVES // 2)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, text=True) as writer:
            for thread in threads:
                thread.start()
            try:
                writer.stdin.write("start\n")
                writer.stdin.flush()
                sizes = []
                while writer.poll() is None:
                    index.refresh()
                    state = index._opened.vectors.state  # searches move the index too
                    sizes.append(state.images)
                    # Each image has two captions: both halves are of one state.
                    assert state.captions == 2 * state.images
            finally:
                done.set()
                for thread in threads:
                    thread.join()
        assert writer.returncode == 0
        assert not errors, errors[0]
        assert sizes == sorted(sizes)
        index.refresh()
        assert len(index) == _NAMES + _SAVES
        for version in range(_SAVES + 1):
            _pairs_are_right(index, version, seen)
