"""`vireo index` of a folder that changes, and a client that stays open meanwhile."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from vireo_client.search import SearchClient

RUN = """
from vireo_client.cli import run
from vireo_client.commands.index import index
run(index)
"""


@pytest.fixture
def index(tmp_path, photos, repository):
    def run(*options, source=photos):
        words = [source, "--model", repository.folder, "--index", tmp_path / "i", *options]
        return subprocess.run(
            [sys.executable, "-c", RUN, *map(str, words)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def test_an_open_client_follows_what_is_indexed_moved_and_removed(photos, index, tmp_path):
    assert index().returncode == 0
    with SearchClient(tmp_path / "i") as client:

        def found(k=20):
            return sorted(os.path.basename(match.path)[0] for match in client.search("con cá", k))

        assert found() == list("abcdef")
        for name in "ab":
            with (photos / f"{name}.png").open("ab") as file:
                file.write(b"\0")
        assert "2 images added" in index().stdout
        assert found() == list("abcdef")
        assert len(found(k=3)) == 3
        (photos / "a.png").unlink()
        (photos / "b.png").rename(photos / "x.png")
        (photos / "c.png").write_bytes(b"rubbish")
        done = index()
        assert (
            "0 images added (0 captions), 3 unchanged, 1 moved, 2 removed, 1 skipped" in done.stdout
        )
        assert "now holds 4 images" in done.stdout
        assert found() == list("defx")


def test_the_names_of_what_was_removed_are_in_the_json(photos, index):
    index()
    (photos / "a.png").unlink()
    (photos / "b.png").rename(photos / "x.png")
    answer = json.loads(index("--json").stdout)
    folder = photos.resolve()
    assert answer["removed"] == [str(folder / "a.png")]
    assert answer["moved"] == [[str(folder / "b.png"), str(folder / "x.png")]]
    assert (answer["total"], answer["kept"]) == (5, {})


def test_an_empty_folder_fails_and_removes_nothing_without_yes(photos, index, tmp_path):
    index()
    shutil.rmtree(photos)
    photos.mkdir()
    done = index()
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert "--yes" in done.stderr
    with SearchClient(tmp_path / "i") as client:
        assert len(client.search("con cá", 20)) == 6
    done = index("--yes")
    assert done.returncode == 0, done.stderr
    assert "6 removed" in done.stdout


def test_an_empty_folder_below_fails_at_the_end(photos, index):
    (photos / "disk").mkdir()
    (photos / "a.png").rename(photos / "disk" / "a.png")
    index()
    (photos / "disk" / "a.png").unlink()
    (photos / "b.png").unlink()
    done = index()
    assert done.returncode == 1
    assert "1 removed" in done.stdout
    assert f"{photos.resolve() / 'disk'} (1)" in done.stderr
    assert index("--keep-missing").returncode == 0
    assert "1 removed" in index("--yes").stdout


def test_a_folder_that_never_was_makes_no_index_of_nothing(index, tmp_path):
    for options in ((), ("--yes",)):
        done = index(*options, source=tmp_path / "typo")
        assert done.returncode == 1
        assert "typo: no" in done.stderr
