import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from support.small_index import DIM, best, best_caption, new_image, unit, write_small_bundle
from vireo_client.bundle import Bundle
from vireo_client.errors import DataError, IndexLocked, SearchIndexError
from vireo_client.index import Index, IndexWriter, committed, segments
from vireo_client.index.catalogue import CATALOGUE_FILE, Catalogue
from vireo_client.index.changes import Move
from vireo_client.index.committed import Committed
from vireo_client.index.journal import Journal
from vireo_client.index.rows import FileStamp
from vireo_client.index.writable import WritableCatalogue


def _segment_files(folder):
    """The files of the committed state, and those that are there."""
    catalogue = Catalogue(folder / CATALOGUE_FILE)
    current = {name for segment in catalogue.layout().segments for name in segment.files}
    catalogue.close()
    return current, {path.name for path in folder.glob("segments/*")}


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
    current, present = _segment_files(tmp_path / "i")
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


def test_a_full_disk_leaves_the_saved_index_and_saving_can_be_tried_again(
    tmp_path, small_bundle, monkeypatch
):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
        writer.add([new_image("b.jpg", 2)])

        def full(*_):
            raise OSError("No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(segments, "_write_array", full)
            with pytest.raises(SearchIndexError, match=r"cannot be saved.*No space left"):
                writer.save()
        with Index(tmp_path / "i", small_bundle) as index:
            assert (len(index), best(index, 1)) == (1, ("a.jpg", 1))
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        assert (len(index), best(index, 2)) == (2, ("b.jpg", 1))


def _failing_after(method):
    def fail(*words):
        method(*words)
        raise sqlite3.OperationalError("disk I/O error")

    return fail


def test_a_failed_transaction_never_lends_its_vectors_to_the_next_writer(
    tmp_path, small_bundle, monkeypatch
):
    """Both writers number their generation 2; nobody sweeps the first one's files away."""
    folder = tmp_path / "i"
    for sweep in ("sweep_segments", "drop_segments"):
        monkeypatch.setattr(committed, sweep, lambda *_: None)
    with IndexWriter(folder, small_bundle) as first:
        first.add([new_image("a.jpg", 1, captions=1)])
        first.save()
        first.add([new_image("failed.jpg", 2, captions=1)])
        with monkeypatch.context() as patch:
            patch.setattr(WritableCatalogue, "add", _failing_after(WritableCatalogue.add))
            with pytest.raises(SearchIndexError, match="disk I/O error"):
                first.save()
    current, present = _segment_files(folder)
    assert len(present - current) == 6  # the failed save's
    with Index(folder, small_bundle) as reader:
        with IndexWriter(folder, small_bundle) as second:
            second.add([new_image("b.jpg", 3, captions=1)])  # takes the id that failed.jpg had
            second.save()
        assert reader.refresh()
        with Index(folder, small_bundle) as fresh:
            for index in (reader, fresh):
                assert (len(index), index.captions) == (2, 2)
                assert [best(index, n) for n in (1, 3)] == [("a.jpg", 1), ("b.jpg", 1)]
                assert best_caption(index, 3000) == ("b.jpg câu 0", 1)
                assert best(index, 2)[1] < 0.9
                assert best_caption(index, 2000)[1] < 0.9


def test_a_writer_that_lost_its_lock_cannot_save_over_another(tmp_path, small_bundle):
    """Somebody deletes the lock file, or the file system does not lock."""
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as first:
        first.add([new_image("a.jpg", 1)])
        first.save()
        first.add([new_image("late.jpg", 2)])
        (folder / "writer.lock").unlink()
        with IndexWriter(folder, small_bundle) as second:
            second.add([new_image("b.jpg", 3)])
            second.save()
            with pytest.raises(SearchIndexError, match="another writer saved in between"):
                first.save()
            with Index(folder, small_bundle) as index:  # the failed save's files are not these
                # The second one took over what the first had added, as if that had been killed.
                found = [best(index, n) for n in (1, 2, 3)]
                assert found == [("a.jpg", 1), ("late.jpg", 1), ("b.jpg", 1)]
                assert len(index) == 3
            second.add([new_image("c.jpg", 4)])
            second.save()
    with Index(folder, small_bundle) as index:
        assert len(index) == 4
        assert [best(index, n) for n in (1, 3, 4)] == [("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 1)]


def test_a_ctrl_c_right_after_the_commit_does_not_save_twice(tmp_path, small_bundle, monkeypatch):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        settle = Committed._settle
        calls = []

        def interrupted(*words):
            calls.append(words)
            if len(calls) == 1:
                raise KeyboardInterrupt
            settle(*words)

        monkeypatch.setattr(Committed, "_settle", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.save()
        writer.add([new_image("b.jpg", 2)])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        assert (len(index), best(index, 1), best(index, 2)) == (2, ("a.jpg", 1), ("b.jpg", 1))


@pytest.mark.parametrize("step", range(3))
def test_an_addition_that_was_cut_short_loses_nothing(tmp_path, small_bundle, monkeypatch, step):
    """A Ctrl-C while an image replaces another."""
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()
        plain, calls = writer._committed.catalogue.stamp, []

        def interrupted(path):
            calls.append(path)
            if len(calls) > step:
                raise KeyboardInterrupt
            return plain(path)

        monkeypatch.setattr(writer._committed.catalogue, "stamp", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.add([new_image(f"{name}.jpg", seed) for seed, name in enumerate("bac", 2)])
        writer.save()
    with Index(tmp_path / "i", small_bundle) as index:
        paths = {match.path for match in index.search_images(unit(1)[None], 5)[0]}
        assert paths == ({"a.jpg"}, {"a.jpg", "b.jpg"}, {"a.jpg", "b.jpg"})[step]
        assert best(index, 1 if step < 2 else 3) == ("a.jpg", 1)


def test_no_id_is_given_twice(tmp_path, small_bundle):
    ids = []
    for turn in range(1, 4):  # each replaces both images, so that all rows of the last are gone
        with IndexWriter(tmp_path / "i", small_bundle) as writer:
            writer.add([new_image(name, 10 * turn, captions=1, size=turn) for name in "ab"])
            writer.save()
        with sqlite3.connect(tmp_path / "i" / CATALOGUE_FILE) as db:
            ids += [row[0] for row in db.execute("SELECT id FROM images")]
            assert db.execute("SELECT COUNT(*) FROM captions").fetchone() == (2,)
    assert ids == [1, 2, 3, 4, 5, 6]


_KILLED_WRITER = """
import json, os, signal, sys
sys.path[:0] = json.loads(sys.argv[4])
from support.small_index import new_image
from vireo_client import files
from vireo_client.bundle import Bundle
from vireo_client.index import IndexWriter, bundle_files, segments
from vireo_client.index.committed import Committed
from vireo_client.index.writable import WritableCatalogue

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(path, *words):
    plain_write(path, *words)
    os.truncate(path, os.path.getsize(path) // 2)
    die()

moment = sys.argv[3]
plain_write, plain_add = segments._write_array, WritableCatalogue.add
if moment == "before-vectors":
    segments._write_array = die
elif moment == "half-a-file":
    segments._write_array = half
elif moment == "before-sync":
    segments.sync = die
elif moment == "second-part":
    segments._write_array = lambda p, *w: die() if "captions" in p.name else plain_write(p, *w)
elif moment == "inside-transaction":
    WritableCatalogue.add = lambda *a: (plain_add(*a), die())
elif moment == "half-a-catalogue":
    # A cache of one page: the transaction's rows are in the file long before the commit.
    def spill(self, *a):
        self._db.execute("PRAGMA cache_size = 1")
        plain_add(self, *a)
        die()
    WritableCatalogue.add = spill
elif moment == "after-commit":
    Committed._settle = die
elif moment == "half-a-bundle":
    bundle_files.os.fsync = die
elif moment == "before-the-bundle":
    files._exchange = die
elif moment == "after-the-bundle":
    plain_exchange = files._exchange
    files._exchange = lambda *a: (plain_exchange(*a), die())
with IndexWriter(sys.argv[1], Bundle(sys.argv[2])) as writer:
    many = 300 if moment == "half-a-catalogue" else 0
    writer.add([new_image("new.jpg", 5, captions=1), new_image("old.jpg", 6, captions=2, size=2),
                *(new_image(f"{n}.jpg", 100 + n) for n in range(many))])
    writer.save()
"""

_LASTING = {
    "before-vectors": False,
    "half-a-file": False,
    "before-sync": False,
    "second-part": False,
    "inside-transaction": False,
    "half-a-catalogue": False,
    "after-commit": True,
    "half-a-bundle": False,
    "before-the-bundle": False,
    "after-the-bundle": False,
}


@pytest.mark.parametrize("moment", _LASTING)
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_index(tmp_path, small_bundle, moment):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("old.jpg", 3, captions=1)])
        writer.save()
    # The same bundle, exported anew: its small files are replaced in the index.
    again = write_small_bundle(tmp_path / "model_repository", recall=0.9)
    with Index(folder, small_bundle) as beside:
        done = subprocess.run(
            [sys.executable, "-c", _KILLED_WRITER, folder, again.folder, moment,
             json.dumps(sys.path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        lasting = _LASTING[moment]
        if moment == "half-a-catalogue":  # what a reader finds here it has to roll back
            assert (folder / f"{CATALOGUE_FILE}-journal").stat().st_size > 0
        assert beside.refresh() == lasting
        with Index(folder, small_bundle) as fresh:
            for index in (beside, fresh):
                near = {seed: best(index, seed)[0] for seed in range(1, 8)
                        if best(index, seed)[1] > 0.99}  # fmt: skip
                assert near == ({5: "new.jpg", 6: "old.jpg"} if lasting else {3: "old.jpg"})
                assert (len(index), index.captions) == ((2, 3) if lasting else (1, 1))
    own = Bundle(folder / "bundle")  # whole, old or new
    assert own.config.metrics in ({}, {"recall": 0.9})
    assert (own.folder / "vi-vocab").read_text() == "con_chó"
    with IndexWriter(folder, again) as writer:  # it sweeps what the dead one left
        current, present = _segment_files(folder)
        assert present == current
        expected = {"bundle", CATALOGUE_FILE, "segments", "writer.json", "writer.lock"}
        # SQLite keeps the journal of a killed transaction until the next one.
        present = {name for name in os.listdir(folder) if not name.endswith("-journal")}
        assert present == expected
        assert Bundle(folder / "bundle").config.metrics == {"recall": 0.9}
        writer.add([new_image("last.jpg", 7, captions=1)])
        writer.save()
    with Index(folder, small_bundle) as index:
        assert best(index, 7) == ("last.jpg", 1)
        # The dead one's additions were in its journal, unless it died before it added.
        assert best(index, 3 if "bundle" in moment else 6) == ("old.jpg", 1)


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


def _as_if_killed(folder, bundle, *images):
    """Leave the journal of a writer that added images and was killed."""
    with IndexWriter(folder, bundle) as writer:
        writer.add(images)
        (journal,) = folder.glob("journal-*.bin")
        data = journal.read_bytes()
    journal.write_bytes(data)


def test_what_a_killed_writer_added_is_saved_by_the_next(tmp_path, small_bundle):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("a.jpg", 1), new_image("b.jpg", 2)])
        writer.save()
    image = new_image("b.jpg", 3, captions=2, size=2)._replace(fields={"note": "phố cổ"})
    _as_if_killed(folder, small_bundle, image)
    with IndexWriter(folder, small_bundle) as writer:
        assert (len(writer), writer.captions) == (2, 2)
    assert not list(folder.glob("journal-*"))
    with Index(folder, small_bundle) as index:
        assert [best(index, n)[0] for n in (1, 3)] == ["a.jpg", "b.jpg"]
        assert index.search_words("pho co", 1)[0].path == "b.jpg"


def test_a_full_disk_does_not_keep_a_writer_from_opening(
    tmp_path, small_bundle, monkeypatch, caplog
):
    """It may have come to sweep, or to remove images."""
    folder = tmp_path / "i"
    _as_if_killed(folder, small_bundle, new_image("a.jpg", 1))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segments, "_write_array", full)
        with IndexWriter(folder, small_bundle) as writer:
            assert len(writer) == 1
        assert "not saved yet" in caplog.text
        assert "No space left" in caplog.text
    assert list(folder.glob("journal-*"))
    with IndexWriter(folder, small_bundle) as writer:
        assert len(writer) == 1
    with Index(folder, small_bundle) as index:
        assert best(index, 1) == ("a.jpg", 1)


def test_a_batch_that_fits_no_more_is_passed_over(tmp_path, small_bundle, caplog):
    folder = tmp_path / "i"
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)._replace(fields={"iso": 100})])
        (journal,) = folder.glob("journal-*.bin")
        data = journal.read_bytes()
    with IndexWriter(folder, small_bundle) as writer:
        writer.add([new_image("b.jpg", 2)._replace(fields={"iso": "hundred"})])
        writer.save()
    journal.write_bytes(data)
    with IndexWriter(folder, small_bundle) as writer:
        assert len(writer) == 1
    assert "a batch is passed over (a.jpg: column 'iso'" in caplog.text


@pytest.mark.parametrize("renamed", [False, True])
def test_what_a_journal_holds_and_the_index_too_is_not_added_again(
    tmp_path, small_bundle, monkeypatch, renamed
):
    """A kill between the commit and the removal of the journal."""
    folder = tmp_path / "i"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "clear", lambda _: None)
        with IndexWriter(folder, small_bundle) as writer:
            writer.add([new_image("a.jpg", 1), new_image("b.jpg", 2)])
            writer.save()
    (journal,) = folder.glob("journal-*.bin")
    if renamed:  # so that `meta` does not name it
        journal.rename(folder / "journal-0.bin")
    with IndexWriter(folder, small_bundle):
        pass
    assert not list(folder.glob("journal-*"))
    with Index(folder, small_bundle) as index:
        assert (len(index), index._opened.vectors.state.generation) == (2, 1)


def test_an_addition_whose_journal_cannot_be_written_is_refused(
    tmp_path, small_bundle, monkeypatch
):
    with IndexWriter(tmp_path / "i", small_bundle) as writer:

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Journal, "append", full)
        with pytest.raises(
            SearchIndexError, match=r"cannot be written.*No space left.*nothing was added"
        ):
            writer.add([new_image("a.jpg", 1)])
        assert len(writer) == 0


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
            good._replace(embedding=good.embedding * 1.002),
        ):
            with pytest.raises(DataError, match=r"a\.jpg: .*(no number|not of length 1)"):
                writer.add([new_image("b.jpg", 2), image])
        assert len(writer) == 0
        writer.add([good._replace(embedding=good.embedding * 1.0005)])
        writer.save()
