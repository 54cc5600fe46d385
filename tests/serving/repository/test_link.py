import errno
import os

import pytest
from vireo_serving.repository.link import link


def _refuse(number):
    def refuse(source, target):
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_link_is_the_same_file(tmp_path):
    (tmp_path / "a").write_text("engine")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")


def test_a_link_to_a_symbolic_link_is_the_file_itself(tmp_path):
    (tmp_path / "a").write_text("engine")
    (tmp_path / "soft").symlink_to("a")
    link(tmp_path / "soft", tmp_path / "b")
    assert not (tmp_path / "b").is_symlink()
    assert (tmp_path / "b").samefile(tmp_path / "a")


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_a_copy_is_made(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "link", _refuse(number))
    (tmp_path / "a").write_text("engine")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "engine"
    assert not (tmp_path / "b").samefile(tmp_path / "a")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_exists_is_never_replaced(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", _refuse(errno.EPERM))
    (tmp_path / "a").write_text("a stranger's")
    (tmp_path / "b").write_text("ours")
    with pytest.raises(FileExistsError, match="b"):
        link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "ours"


def test_other_errors_are_raised(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        link(tmp_path / "nothing", tmp_path / "b")
    monkeypatch.setattr(os, "link", _refuse(errno.ENOSPC))
    (tmp_path / "a").write_text("engine")
    with pytest.raises(OSError, match="No space left"):
        link(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()
