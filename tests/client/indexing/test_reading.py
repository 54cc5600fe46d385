"""Files that change, vanish or are no files, while they are read; and that each is read once."""

import hashlib
import os
import shutil
import sys
import threading

import pytest
from vireo_client.errors import ImageError
from vireo_client.indexing import reading
from vireo_client.indexing.reading import ByteBudget, read_whole


@pytest.fixture
def opens(tmp_path):
    """Count how often each file below the test's folder is opened."""
    counts, watching = {}, [True]

    def hook(event, arguments):
        if event == "open" and watching and isinstance(arguments[0], str):
            name = arguments[0]
            if name.startswith(str(tmp_path.resolve())):
                counts[name] = counts.get(name, 0) + 1

    sys.addaudithook(hook)  # which cannot be taken away again
    yield counts
    watching.clear()


def test_each_file_is_read_once(photos, index_source, opens, tmp_path):
    report = index_source(photos)
    assert report.added == 6
    images = {path: count for path, count in opens.items() if path.endswith(".png")}
    assert images == {str(path.resolve()): 1 for path in photos.iterdir()}


def _during_reads(monkeypatch, change):
    """Have `change` called when the bytes of a file were read, before it is looked at again."""
    plain = reading._read

    def read(descriptor, count):
        data = plain(descriptor, count)
        change(descriptor)
        return data

    monkeypatch.setattr(reading, "_read", read)


def test_a_file_that_changes_once_while_it_is_read_is_read_again(photos, monkeypatch):
    path = photos / "a.png"
    new = (photos / "b.png").read_bytes()
    changes = [lambda _: path.write_bytes(new)]
    _during_reads(monkeypatch, lambda _: changes.pop()(_) if changes else None)
    contents = read_whole(str(path))
    assert contents.data == new
    assert contents.status.st_size == len(new)


@pytest.mark.parametrize("change", ["grows", "is replaced", "is written over"])
def test_a_file_that_goes_on_changing_is_skipped_with_the_reason(
    photos, monkeypatch, change, index_source
):
    path = photos / "a.png"
    number = iter(range(100))

    def alter(descriptor):
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return
        if change == "grows":
            with path.open("ab") as file:
                file.write(b"\0")
        elif change == "is replaced":
            other = photos / ".other"
            shutil.copy2(path, other)
            other.rename(path)
        else:
            os.utime(path, ns=(0, next(number)))

    _during_reads(monkeypatch, alter)
    report = index_source(photos)
    assert report.added == 5
    (skip,) = report.skipped
    assert skip.where == str(path.resolve())
    assert "changed while it was read, twice" in skip.reason


def test_a_file_that_vanishes_while_it_is_read_is_skipped(photos, monkeypatch, index_source):
    path = photos / "a.png"
    _during_reads(monkeypatch, lambda _: path.unlink(missing_ok=True))
    (photos / "b.png").unlink()
    report = index_source(photos)
    assert report.added == 4
    assert [(skip.where, skip.reason) for skip in report.skipped] == [
        (str(path.resolve()), "No such file or directory")
    ]


def test_what_is_no_file_is_not_waited_for(photos):
    os.mkfifo(photos / "pipe.png")
    for path in (photos / "pipe.png", photos):
        with pytest.raises(ImageError, match="not a file"):
            read_whole(str(path))


def test_a_file_that_is_too_large_is_refused_unread(photos, index_source):
    with (photos / "large.png").open("wb") as file:
        file.truncate(reading.MAX_FILE_BYTES + 1)
    report = index_source(photos)
    assert report.added == 6
    (skip,) = report.skipped
    assert "too large a file for an image (536,870,913 bytes)" in skip.reason


def test_threads_hold_no_more_bytes_than_the_budget():
    budget, lock = ByteBudget(100), threading.Lock()
    held, most = 0, []

    def work(count):
        nonlocal held
        for _ in range(50):
            with budget.holding(count):
                with lock:
                    held += count
                    most.append(held)
                with lock:
                    held -= count

    threads = [threading.Thread(target=work, args=(count,)) for count in (30, 50, 70, 99)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 100
    order = []

    def wait():
        with budget.holding(1):
            order.append("small")

    with budget.holding(500):  # more than the limit: alone
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(timeout=0.05)
        order.append("large")
    waiting.join()
    assert order == ["large", "small"]


def test_a_touched_file_keeps_its_embedding_and_its_id(photos, index_source, catalogue):
    index_source(photos)
    before = catalogue()
    os.utime(photos / "a.png", ns=(5, 5_000_000_000))
    report = index_source(photos)
    assert (report.added, report.unchanged, report.moved) == (0, 6, [])
    after = catalogue()
    assert {path: row[0] for path, row in after.items()} == {
        path: row[0] for path, row in before.items()
    }
    assert after[str(photos.resolve() / "a.png")][1:] == (
        hashlib.sha256((photos / "a.png").read_bytes()).hexdigest(),
        5_000_000_000,
    )
    assert index_source(photos).unchanged == 6


@pytest.mark.parametrize("seconds", [10**10, 10**12, -(10**12)])
def test_a_file_of_a_far_time_is_indexed_once(photos, index_source, seconds):
    path = photos / "a.png"
    os.utime(path, (seconds, seconds))
    if os.stat(path).st_mtime != seconds:
        pytest.skip("this file system has no such time")
    assert index_source(photos).added == 6
    assert index_source(photos).unchanged == 6
