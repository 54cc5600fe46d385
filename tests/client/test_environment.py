"""Every `VIREO_*` variable is read in one module."""

import ast
import re
from pathlib import Path

import pytest
from vireo_client import environment

ROOT = Path(__file__).parents[2]
SOURCES = ("client", "model_repository", "training", "export")
NAME = re.compile(r"VIREO_[A-Z_]+")


def _names(path):
    """Return the string constants of a module that are the name of a variable."""
    constants = (
        n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)
    )
    return {value for value in constants if isinstance(value, str) and NAME.fullmatch(value)}


def test_no_other_module_names_a_variable():
    files = [path for source in SOURCES for path in (ROOT / source).rglob("*.py")]
    assert len(files) > 100
    naming = {path.relative_to(ROOT).as_posix() for path in files if _names(path)}
    assert naming == {"client/vireo_client/environment.py"}


def test_the_docstring_lists_every_variable():
    assert set(NAME.findall(environment.__doc__)) == _names(Path(environment.__file__))


@pytest.mark.parametrize(
    ("value", "offline"), [(None, False), ("", False), ("0", False), ("1", True)]
)
def test_offline(monkeypatch, value, offline):
    monkeypatch.delenv(environment.OFFLINE, raising=False)
    if value is not None:
        monkeypatch.setenv(environment.OFFLINE, value)
    assert environment.offline() is offline


@pytest.mark.parametrize("read", [environment.data_folder, environment.triton_carrier])
def test_an_empty_folder_is_none(monkeypatch, read):
    name = {"data_folder": environment.DATA, "triton_carrier": environment.TRITON_CARRIER}
    monkeypatch.setenv(name[read.__name__], "")
    assert read() is None
    monkeypatch.setenv(name[read.__name__], "/some/where")
    assert read() == Path("/some/where")
