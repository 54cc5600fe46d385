"""Publications and rollbacks of one repository that end at the same moment."""

import errno
import fcntl
import json
import os
import threading
from contextlib import contextmanager

import pytest
from support.repositories import publish_version
from vireo_client.errors import BundleError, ExportError
from vireo_client.repository import PARITY_FILE, current_version, read_versions
from vireo_serving.repository import lock, publish, rollback
from vireo_serving.repository.publish import publishing
from vireo_serving.repository.rollback import rollback as roll_back

ROUNDS = 10
"""More take longer, as each keeps one version more; 40 of 40 were seen to hold."""


def _together(*works):
    """Run functions in threads; return what each returned or raised."""
    results = [None] * len(works)

    def run(number, work):
        try:
            results[number] = work()
        except (ExportError, BundleError) as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _publication(repository, mark, barrier):
    def work():
        with publishing(repository, keep=100) as draft:
            (draft / PARITY_FILE).write_text(json.dumps({"mark": mark}))
            for model in ("text_encoder", "image_encoder", "embed_text"):
                (draft / model / str(current_version(draft))).mkdir(parents=True)
                (draft / model / "config.pbtxt").touch()
                (draft / model / str(current_version(draft)) / "config.pbtxt").touch()
            barrier.wait()
        return mark

    return work


def test_of_two_publications_that_end_together_one_says_that_it_was_late(tmp_path):
    repository = tmp_path / "models"
    for round_ in range(ROUNDS):
        barrier = threading.Barrier(2)
        results = _together(
            *(_publication(repository, f"{round_}{name}", barrier) for name in "ab")
        )
        (kept,) = [result for result in results if isinstance(result, str)]
        (late,) = [result for result in results if isinstance(result, ExportError)]
        assert f"another export published version {round_ + 1} meanwhile" in str(late)
        assert json.loads((repository / PARITY_FILE).read_text()) == {"mark": kept}
        assert read_versions(repository) == (round_ + 1, tuple(range(1, round_ + 2)))
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_rollback_beside_an_export_loses_nothing(tmp_path):
    repository = tmp_path / "models"
    alone = threading.Barrier(1)
    for mark in ("first", "second"):
        _publication(repository, mark, alone)()
    for round_ in range(ROUNDS):
        barrier = threading.Barrier(2)

        def back(barrier=barrier):
            barrier.wait()
            return roll_back(repository, 1)

        published, version = _together(_publication(repository, str(round_), barrier), back)
        assert published == str(round_)
        assert version == 1
        versions = read_versions(repository)
        assert versions.kept == tuple(range(1, round_ + 4))
        assert versions.current in (1, round_ + 3)
        if versions.current == 1:
            roll_back(repository, round_ + 3)
        assert json.loads((repository / PARITY_FILE).read_text()) == {"mark": str(round_)}


@pytest.mark.parametrize("module", [publish, rollback])
def test_the_exchange_happens_under_the_lock(module, bundle, tmp_path, monkeypatch):
    repository = tmp_path / "models"
    for mark in "ab":
        publish_version(bundle, repository, mark=mark)
    held, seen = [], []
    locked, replacing = module.locked, module.replacing

    @contextmanager
    def noting(repository):
        with locked(repository):
            held.append(True)
            yield
            held.pop()

    @contextmanager
    def watched(target, *, marker):
        with replacing(target, marker=marker) as draft:
            yield draft
        seen.append(bool(held))

    monkeypatch.setattr(module, "locked", noting)
    monkeypatch.setattr(module, "replacing", watched)
    if module is publish:
        publish_version(bundle, repository, mark="c")
    else:
        roll_back(repository)
    assert seen == [True]
    assert held == []


def test_the_lock_is_one_that_nfs_gives(tmp_path, monkeypatch):
    plain, taken = fcntl.flock, []

    def as_nfs(descriptor, how):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
            raise OSError(errno.EBADF, "Bad file descriptor")
        taken.append(how)
        return plain(descriptor, how)

    monkeypatch.setattr(lock.fcntl, "flock", as_nfs)
    with lock.locked(tmp_path / "models"):
        assert taken == [fcntl.LOCK_EX]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_another_user_made_is_taken_all_the_same(tmp_path, monkeypatch):
    plain, path = os.open, tmp_path / ".models.lock"
    path.touch()

    def as_another_user(file, flags, mode=0o777):
        if file == path and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(file, flags, mode)

    monkeypatch.setattr(lock.os, "open", as_another_user)
    with lock.locked(tmp_path / "models"):
        assert path.exists()
    assert not path.exists()
