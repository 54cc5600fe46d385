"""Folders that a process holds, and those of processes that were killed."""

import errno
import multiprocessing
import os
import signal
import sys
import tempfile

import pytest
from support.processes import start
from support.waiting import wait_until
from vireo_client import held
from vireo_client.files import replacing
from vireo_client.held import HeldFolder, remove_abandoned, temporary_folder

PREFIX = ".models-draft-"


def _sweep(folder, prefix=PREFIX):
    return [path.name for path in remove_abandoned(folder, prefix)]


def test_a_held_folder_stays_and_a_closed_one_goes(tmp_path):
    folder = HeldFolder(tmp_path, PREFIX)
    assert _sweep(tmp_path) == []
    assert folder.path.is_dir()
    folder.close()
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_holds_is_removed_and_nothing_else(tmp_path):
    abandoned = tmp_path / f"{PREFIX}abcd1234"
    (abandoned / "inner").mkdir(parents=True)
    others = [tmp_path / f"{PREFIX}backup", tmp_path / ".models-abcd1234", tmp_path / "models"]
    for other in others:
        other.mkdir()
    link = tmp_path / f"{PREFIX}link4567"
    link.symlink_to(others[2])
    assert _sweep(tmp_path) == [abandoned.name]
    assert sorted(tmp_path.iterdir()) == sorted([*others, link])


def test_brackets_in_a_name_are_no_pattern(tmp_path):
    (tmp_path / ".a-draft-abcd1234").mkdir()
    (tmp_path / ".[a]-draft-abcd1234").mkdir()
    assert _sweep(tmp_path, ".[a]-draft-") == [".[a]-draft-abcd1234"]


def test_a_folder_that_is_swept_before_it_is_locked_is_made_anew(tmp_path, monkeypatch):
    lock, left = held._lock, [1]

    def late(folder, *, wait):
        if wait and left:
            left.pop()
            assert _sweep(tmp_path) == [folder.name]
        return lock(folder, wait=wait)

    monkeypatch.setattr(held, "_lock", late)
    folder = HeldFolder(tmp_path, PREFIX)
    assert not left
    assert folder.path.is_dir()
    assert _sweep(tmp_path) == []


def test_on_a_file_system_without_locks_a_folder_is_made_and_never_taken(tmp_path, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(errno.EBADF, "Bad file descriptor")  # as NFS answers for a folder

    monkeypatch.setattr(held.fcntl, "flock", refuse)
    folder = HeldFolder(tmp_path, PREFIX)
    assert _sweep(tmp_path) == []
    folder.close()
    target = tmp_path / "models"
    for content in ("old", "new"):
        with replacing(target, marker="marker") as draft:
            (draft / "marker").write_text(content)
    assert (target / "marker").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_where_no_file_can_be_opened_that_is_an_error(tmp_path, monkeypatch):
    def refuse(path, flags):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(held.os, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        HeldFolder(tmp_path, PREFIX)
    assert list(tmp_path.iterdir()) == []


def _make_and_close(folder, barrier, failures):
    barrier.wait()
    for _ in range(100):
        for _ in remove_abandoned(folder, PREFIX):
            pass
        made = HeldFolder(folder, PREFIX)
        try:
            (made.path / "models").mkdir()
        except OSError as error:
            failures.put(repr(error))
        made.close()


def test_four_processes_that_start_at_once_leave_each_other_alone(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, failures = context.Barrier(4), context.SimpleQueue()
    processes = [
        context.Process(target=_make_and_close, args=(tmp_path, barrier, failures))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert failures.empty()
    assert list(tmp_path.iterdir()) == []


_DRAFT = """
import sys, time
from pathlib import Path
from vireo_client.files import replacing
from vireo_client.held import temporary_folder
with temporary_folder("vireo-killed-"), replacing(Path(sys.argv[1]), marker="marker") as draft:
    (draft / "marker").touch()
    print("ready", flush=True)
    time.sleep(600)
"""


def test_the_drafts_of_a_killed_process_go_with_the_next_replacement(tmp_path, monkeypatch):
    target = tmp_path / "models"
    with replacing(target, marker="marker") as draft:
        (draft / "marker").touch()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    output = tmp_path / "output"
    with output.open("w") as stream:
        process = start([sys.executable, "-c", _DRAFT, target], stdout=stream)
    wait_until(lambda: "ready" in output.read_text() or process.poll() is not None)
    assert len([*tmp_path.glob(".models-draft-*"), *temporary.iterdir()]) == 2
    with replacing(target, marker="marker") as draft:  # it lives: its drafts stay
        (draft / "marker").touch()
    assert len([*tmp_path.glob(".models-draft-*"), *temporary.iterdir()]) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with replacing(target, marker="marker") as draft:
        (draft / "marker").touch()
    with temporary_folder("vireo-killed-"):
        assert len(list(temporary.iterdir())) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models", "output", "tmp"]
    assert list(temporary.iterdir()) == []


def test_a_draft_is_held_while_it_is_written(tmp_path):
    with replacing(tmp_path / "models", marker="marker") as draft:
        assert _sweep(tmp_path) == []
        assert draft.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
