"""An index on a disk that is full: a small file system in memory, where it may be mounted."""

import os
import shutil
import subprocess
from itertools import groupby

import pytest
from support.small_index import best, new_image
from vireo_client.errors import IndexLocked, SearchIndexError
from vireo_client.index import Index, IndexWriter
from vireo_client.index.maintenance import snapshot, verify

_SIZE = 3 << 20


@pytest.fixture
def disk(tmp_path):
    """A file system of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder]
    try:
        mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _fill(disk, free):
    """Fill the disk but for some bytes."""
    (disk / "filler").unlink(missing_ok=True)
    (disk / "filler").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - free)))


@pytest.fixture
def index(disk, small_bundle):
    with IndexWriter(disk / "i", small_bundle) as writer:
        writer.add([new_image(f"{n}.jpg", n + 1, captions=1) for n in range(200)])
        writer.save()
    return disk / "i"


def _add(index, bundle):
    with IndexWriter(index, bundle) as writer:
        writer.add([new_image(f"new-{n}.jpg", n + 1001, captions=1) for n in range(200)])
        writer.remove(["0.jpg"])
        writer.save()


def test_a_disk_that_is_full_at_any_moment_leaves_the_old_index_or_the_new_one(
    disk, index, small_bundle
):
    """From no room at all to enough: in the journal, the segments, before and in the commit."""
    outcomes = []
    shutil.copytree(index, disk.parent / "before")
    for free in range(0, 1_200_000, 20_000):
        shutil.rmtree(index)
        shutil.copytree(disk.parent / "before", index)
        _fill(disk, free)
        try:
            _add(index, small_bundle)
            outcomes.append("saved")
        except SearchIndexError as error:
            outcomes.append(str(error).partition(": ")[2])
        with Index(index, small_bundle) as opened:  # while the disk is full, too
            assert len(opened) in (200, 399)
            assert best(opened, 101) == ("100.jpg", 1)
        (disk / "filler").unlink()
        assert verify(index).is_whole
        with IndexWriter(index, small_bundle) as writer:  # nothing is in its way
            saved = len(writer) == 399
            # What the failed save wrote is gone: the journal, and segments.
            assert len(list((index / "segments").iterdir())) == (12 if saved else 6)
        if outcomes[-1] == "saved":
            break
    assert outcomes[-1] == "saved"
    failed = outcomes[:-1]
    assert all("No space left" in error or "disk is full" in error for error in failed)
    # In the journal first, then in the segments, then in SQLite.
    moments = [error.partition(" (")[0] for error in failed]
    assert [moment for moment, _ in groupby(moments)] == ["cannot be written", "cannot be saved"]
    assert {"No space left" in error for error in failed if "saved" in error} == {True, False}


def test_on_a_full_disk_a_writer_opens_and_says_what_is_wrong(disk, index, small_bundle):
    half_written = index / "segments" / "images-2-00000000.vectors.npy"
    half_written.write_bytes(bytes(100_000))
    _fill(disk, 0)
    with IndexWriter(index, small_bundle) as writer:
        assert not half_written.exists()  # which frees some of the disk
        _fill(disk, 0)
        with pytest.raises(SearchIndexError, match=r"cannot be written.*No space left"):
            writer.add([new_image("new.jpg", 999)])
        with pytest.raises(IndexLocked, match="another process is writing here"):
            IndexWriter(index, small_bundle)
        (disk / "filler").unlink()
        writer.add([new_image("new.jpg", 999)])
        writer.save()
    with Index(index, small_bundle) as opened:
        assert best(opened, 999) == ("new.jpg", 1)


def test_a_new_index_on_a_full_disk_says_that_the_disk_is_full(disk, small_bundle):
    _fill(disk, 0)
    with pytest.raises(SearchIndexError, match=r"cannot be opened.*(disk is full|No space left)"):
        IndexWriter(disk / "new", small_bundle)
    (disk / "filler").unlink()
    with IndexWriter(disk / "new", small_bundle) as writer:
        writer.add([new_image("a.jpg", 1)])
        writer.save()


def test_a_compaction_and_a_snapshot_without_room_leave_the_index(disk, index, small_bundle):
    _fill(disk, 50_000)
    with IndexWriter(index, small_bundle) as writer:
        with pytest.raises(SearchIndexError, match="No space left"):
            writer.compact()
    with pytest.raises(SearchIndexError, match=r"copy: cannot be written.*full"):
        snapshot(index, disk / "copy")
    assert sorted(os.listdir(disk)) == ["filler", "i"]
    assert verify(index).is_whole
