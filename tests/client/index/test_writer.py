import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from support.processes import run_python
from support.small_index import DIM, best, new_image, segment_files, unit, write_index
from vireo_client.errors import DataError, IndexLocked, SearchIndexError
from vireo_client.index import Index, IndexWriter
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.changes import Move
from vireo_client.index.maintenance import verify
from vireo_client.index.rows import FileStamp


def test_a_changed_image_replaces_its_old_embedding_and_captions(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1, captions=3), new_image("b.jpg", 2, captions=1)])
        writer.save()
        assert writer.is_current("a.jpg", FileStamp(1, 1))
        assert not writer.is_current("a.jpg", FileStamp(2, 1))
        assert not writer.is_current("c.jpg", FileStamp(1, 1))
        writer.add([new_image("a.jpg", 3, captions=1, size=2)])
        writer.add([new_image("a.jpg", 4, captions=2, size=3)])  # again before saving
        assert (len(writer), writer.captions) == (2, 3)
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        assert (len(index), index.captions) == (2, 3)
        assert best(index, 4) == ("a.jpg", 1)
        assert best(index, 1)[1] < 0.9


def test_of_one_path_twice_in_one_call_the_last_is_added(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1, captions=2), new_image("a.jpg", 2, captions=1)])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        assert (len(index), index.captions) == (1, 1)
        assert best(index, 2) == ("a.jpg", 1)


def test_what_was_not_saved_is_not_there(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
        writer.add([new_image("b.jpg", 2)])
    with Index(tmp_path / "i", small_bundle) as index:
        assert len(index) == 1


def test_embeddings_that_do_not_fit_are_refused_before_anything_changes(tmp_path, small_bundle):
    good = new_image("a.jpg", 1, captions=2)
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        for bad in (
            good._replace(path="b.jpg", embedding=np.ones(DIM + 1, np.float32)),
            good._replace(path="b.jpg", caption_embeddings=None),
            good._replace(path="b.jpg", caption_embeddings=good.caption_embeddings[:1]),
        ):
            with pytest.raises(DataError, match=r"b\.jpg"):
                writer.add([good, bad])
        assert (len(writer), writer.captions) == (0, 0)
        writer.add([good])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        assert (len(index), index.captions) == (1, 2)


def test_a_folder_with_other_files_is_not_written_to(tmp_path, small_bundle):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "photo.jpg").touch()
    with pytest.raises(SearchIndexError, match="holds other files"):
        IndexWriter(folder, small_bundle)
    assert [p.name for p in folder.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("left", ["writer.lock", CATALOGUE_FILE])
def test_a_writer_killed_at_its_very_start_leaves_a_usable_folder(tmp_path, small_bundle, left):
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / left).touch()
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        assert len(index) == 1


def test_a_writer_killed_while_it_makes_the_catalogue_leaves_a_usable_folder(
    tmp_path, small_bundle
):
    folder = tmp_path / "i"
    folder.mkdir()
    code = """
        import os, signal, sqlite3, sys
        db = sqlite3.connect(sys.argv[1], isolation_level=None)
        db.execute("PRAGMA cache_size = 1")  # the file is written before the commit
        db.execute("BEGIN")
        db.execute("CREATE TABLE meta (key, value)")
        db.executemany("INSERT INTO meta VALUES (?, ?)", [(n, "x" * 4000) for n in range(50)])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run_python("-c", textwrap.dedent(code), folder / CATALOGUE_FILE)
    assert done.returncode == -signal.SIGKILL
    assert (folder / CATALOGUE_FILE).stat().st_size
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
    assert verify(folder).is_whole


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_embeddings_whose_catalogue_is_gone_are_not_removed(tmp_path, small_bundle, change):
    folder = tmp_path / "i"
    write_index(folder, small_bundle, new_image("a.jpg", 1))
    before = sorted(folder.rglob("*.npy"))
    change(folder / CATALOGUE_FILE)
    with pytest.raises(SearchIndexError, match="other files"):
        IndexWriter(folder, small_bundle)
    assert sorted(folder.rglob("*.npy")) == before != []


def test_a_file_where_the_index_should_be_is_an_error(tmp_path, small_bundle):
    (tmp_path / "i").touch()
    with pytest.raises(SearchIndexError, match="cannot be opened"):
        IndexWriter(tmp_path / "i", small_bundle)


def test_a_closed_writer_writes_nothing(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.save()
    for use in (writer.save, lambda: writer.add([new_image("a.jpg", 1)])):
        with pytest.raises(SearchIndexError, match="the index is closed"):
            use()
    current, present = segment_files(tmp_path / "i")
    assert present == current


def test_an_index_has_one_writer_at_a_time(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
        here = rf"another process is writing here \(process {os.getpid()} on .* since 20.*: .+\)"
        with pytest.raises(IndexLocked, match=here):
            IndexWriter(tmp_path / "i", small_bundle)
        code = """import sys; from vireo_client.bundle import Bundle
from vireo_client.index import IndexWriter
IndexWriter(sys.argv[1], Bundle(sys.argv[2]))"""
        other = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "i", small_bundle.folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "another process is writing here" in other.stderr
        writer.add([new_image("b.jpg", 2)])
        writer.save()
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        assert len(writer) == 2


@pytest.mark.parametrize("step", range(3))
def test_an_addition_that_was_cut_short_loses_nothing(tmp_path, small_bundle, monkeypatch, step):
    """A Ctrl-C while an image replaces another."""
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
        plain, calls = writer._committed.catalogue.ids_of, []

        class Interrupted(dict):
            def __contains__(self, path):
                calls.append(path)
                if len(calls) > step:
                    raise KeyboardInterrupt
                return super().__contains__(path)

        catalogue = writer._committed.catalogue
        monkeypatch.setattr(catalogue, "ids_of", lambda paths: Interrupted(plain(paths)))
        with pytest.raises(KeyboardInterrupt):
            writer.add([new_image(f"{name}.jpg", seed) for seed, name in enumerate("bac", 2)])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        paths = {match.path for match in index.search_images(unit(1)[None], 5)[0]}
        assert paths == ({"a.jpg"}, {"a.jpg", "b.jpg"}, {"a.jpg", "b.jpg"})[step]
        assert best(index, 1 if step < 2 else 3) == ("a.jpg", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_index_on_a_read_only_folder_is_searched(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
    shutil.copytree(tmp_path / "i", tmp_path / "copy")
    for path in (*(tmp_path / "copy").rglob("*"), tmp_path / "copy"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with Index(tmp_path / "copy", small_bundle) as index:
        assert best(index, 1) == ("a.jpg", 1)
        assert not index.refresh()
    (tmp_path / "copy").chmod(0o755)
    for path in (tmp_path / "copy").rglob("*"):
        path.chmod(0o755)


def test_fields_that_fit_no_column_are_refused_before_anything_changes(tmp_path, small_bundle):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)._replace(fields={"iso": 100})])
        wrong = new_image("b.jpg", 2)._replace(fields={"iso": "hundred", "new": "column"})
        with pytest.raises(DataError, match=r"b\.jpg.*column 'iso'"):
            writer.add([new_image("c.jpg", 3), wrong])
        assert len(writer) == 1
        writer.add([new_image("d.jpg", 4)._replace(fields={"new": 3})])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        (match,) = index.search_images(unit(4)[None], 5, filter="new = 3")[0]
        assert match.path == "d.jpg"
        assert match.metadata["new"] == 3


def test_a_moved_image_keeps_its_fields_but_those_of_its_path(tmp_path, small_bundle):
    fields = {"folder": "2024/", "name": "a.jpg", "make": "Canon", "taken": "2024-05-01"}
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("/p/2024/a.jpg", 1, captions=1)._replace(fields=fields)])
        writer.save()
        writer.move([Move("/p/2024/a.jpg", "/p/2025/hè/b.jpg", FileStamp(1, 2))])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        (match,) = index.search_images(unit(1)[None], 5)[0]
    assert match.path == "/p/2025/hè/b.jpg"
    told = [match.metadata[name] for name in ("folder", "name", "make", "taken")]
    assert told == ["2025/hè/", "b.jpg", "Canon", "2024-05-01T00:00:00"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0])
def test_what_is_no_unit_vector_is_refused(tmp_path, small_bundle, bad):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        good = new_image("a.jpg", 1, captions=2)
        broken = good.embedding.copy()
        broken[3] = bad
        captions = good.caption_embeddings.copy()
        captions[1, 5] = bad
        for image in (
            good._replace(embedding=broken),
            good._replace(caption_embeddings=captions),
            good._replace(embedding=np.zeros(DIM, np.float32)),
            good._replace(embedding=["x"] * DIM),
            good._replace(caption_embeddings=[["x"] * DIM, [None] * DIM]),
            good._replace(embedding=good.embedding * 1.002),
        ):
            with pytest.raises(DataError, match=r"a\.jpg: .*(no number|not of length 1)"):
                writer.add([new_image("b.jpg", 2), image])
        assert len(writer) == 0
        writer.add([good._replace(embedding=good.embedding * 1.0005)])
        writer.save()
