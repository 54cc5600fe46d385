import os
import sys

import pytest
from vireo_client.errors import VireoError
from vireo_client.files import replacing, replacing_file

MARKER = "marker.json"


def _names(folder):
    return sorted(p.name for p in folder.iterdir())


def _write(target, name):
    with replacing(target, marker=MARKER) as draft:
        (draft / MARKER).touch()
        (draft / name).touch()


def test_a_new_folder_appears_whole_and_replaces_an_older_one(tmp_path):
    target = tmp_path / "deep" / "folder"
    _write(target, "one")
    assert _names(target) == [MARKER, "one"]
    _write(target, "two")
    assert _names(target) == [MARKER, "two"]
    assert _names(target.parent) == ["folder"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder_and_no_rest(tmp_path, error):
    target = tmp_path / "folder"
    _write(target, "one")

    def fail():
        with replacing(target, marker=MARKER) as draft:
            (draft / "half").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert _names(target) == [MARKER, "one"]
    assert _names(tmp_path) == ["folder"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, such a folder may be the last one")
def test_what_the_first_writer_left_when_it_was_killed_is_removed(tmp_path):
    target = tmp_path / "folder"
    (tmp_path / ".folder-draft-abcd1234" / "half").mkdir(parents=True)
    with replacing(target, marker=MARKER) as draft:
        assert _names(tmp_path) == [draft.name]
        (draft / MARKER).touch()
    assert _names(tmp_path) == ["folder"]


def test_somebody_elses_folder_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(VireoError, match=r"holds no marker\.json"):
        _write(tmp_path, "one")
    assert _names(tmp_path) == ["thesis.tex"]


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    for text in (b"one", b"two"):
        with replacing_file(path) as file:
            file.write(text)
            file.flush()
            assert not path.exists() if text == b"one" else path.read_bytes() == b"one"
        assert path.read_bytes() == text
    assert path.stat().st_mode & 0o777 == 0o644
    assert _names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_rest(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"one")

    def fail():
        with replacing_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"one"
    assert _names(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="no /dev/full on this system")
def test_a_full_disk_is_noticed_before_a_file_is_replaced(tmp_path):
    """What is buffered reaches the disk only at the end; /dev/full has no room for it."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    full = os.open("/dev/full", os.O_WRONLY)

    def write():
        with replacing_file(path) as file:
            os.dup2(full, file.fileno())
            file.write(b"two")

    with pytest.raises(OSError, match="No space left"):
        write()
    os.close(full)
    assert path.read_bytes() == b"one"
    assert _names(tmp_path) == ["file"]
