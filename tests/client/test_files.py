import pytest
from vireo_client.errors import VireoError
from vireo_client.files import replacing

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


def test_somebody_elses_folder_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(VireoError, match=r"holds no marker\.json"):
        _write(tmp_path, "one")
    assert _names(tmp_path) == ["thesis.tex"]
