"""Saves that are cut short: by a full disk, a kill, a Ctrl-C or another writer."""

import json
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from support.small_index import (
    best,
    best_caption,
    new_image,
    segment_files,
    write_small_bundle,
)
from vireo_client.bundle import Bundle
from vireo_client.errors import SearchIndexError
from vireo_client.index import Index, IndexWriter, committed, storage
from vireo_client.index.catalogue import CATALOGUE_FILE
from vireo_client.index.committed import Committed
from vireo_client.index.writable import WritableCatalogue


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
            patch.setattr(storage, "_write_array", full)
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
    current, present = segment_files(folder)
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
from vireo_client.index import IndexWriter, bundle_files, storage
from vireo_client.index.committed import Committed
from vireo_client.index.writable import WritableCatalogue

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def half(path, *words):
    plain_write(path, *words)
    os.truncate(path, os.path.getsize(path) // 2)
    die()

moment = sys.argv[3]
plain_write, plain_add = storage._write_array, WritableCatalogue.add
if moment == "before-vectors":
    storage._write_array = die
elif moment == "half-a-file":
    storage._write_array = half
elif moment == "before-sync":
    storage.sync = die
elif moment == "second-part":
    storage._write_array = lambda p, *w: die() if "captions" in p.name else plain_write(p, *w)
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
        current, present = segment_files(folder)
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
