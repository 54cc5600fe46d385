"""Builds for CPUs and GPUs: one of them is needed, both are too many."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from vireo_client.errors import MissingExtraError, VireoError
from vireo_client.extras import (
    BUILDS,
    clashing_builds,
    import_faiss,
    import_onnxruntime,
    missing,
    require,
)

ROOT = Path(__file__).parents[2]


def _install(folder, *names):
    """Write what pip leaves of a distribution, without its files."""
    for name in names:
        info = folder / f"{name.replace('-', '_')}-9.9.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """An environment in which only the distributions of one folder are installed."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize("names", [(), ("faiss-cpu", "onnxruntime"), ("faiss-gpu",)])
def test_one_build_of_each_is_fine(alone, names):
    _install(alone, *names)
    assert clashing_builds() == []


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("faiss-cpu", "faiss-gpu"), 1),
        (("faiss-cpu", "faiss-gpu-cu12"), 1),
        (("onnxruntime", "onnxruntime-gpu"), 1),
        (("faiss-cpu", "faiss-gpu", "onnxruntime", "onnxruntime-gpu"), 2),
    ],
)
def test_two_builds_are_named_with_the_way_to_mend_it(alone, names, count):
    _install(alone, *names)
    messages = clashing_builds()
    assert len(messages) == count
    assert f"pip uninstall {names[0]} {names[1]}, then pip install 'vireo[cpu]'" in messages[0]
    assert "'vireo[gpu]'" in messages[0]


def test_the_command_line_warns_of_two_builds(tmp_path):
    _install(tmp_path, "faiss-cpu", "faiss-gpu")
    command = [Path(sys.executable).parent / "vireo", "text", "xe", "--segmenter", "none"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pip uninstall faiss-cpu faiss-gpu") == 1


@pytest.mark.parametrize(
    ("package", "load"), [("faiss", import_faiss), ("onnxruntime", import_onnxruntime)]
)
def test_a_missing_build_names_both_extras(monkeypatch, package, load):
    assert load().__name__ == package
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    message = rf"{package} is not installed.*'vireo\[cpu\]' \(or 'vireo\[gpu\]' on a machine"
    with pytest.raises(MissingExtraError, match=message):
        load()


@pytest.mark.parametrize(
    "fault", ["import numpy_of_another_kind", "raise ImportError('libcudart.so.12: cannot open')"]
)
def test_a_build_that_does_not_import_is_not_called_missing(monkeypatch, tmp_path, fault):
    """Installing the other build beside it would make two."""
    (tmp_path / "faiss.py").write_text(fault)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(VireoError, match="faiss is installed, but does not import") as raised:
        import_faiss()
    assert not isinstance(raised.value, MissingExtraError)
    assert "vireo[" not in str(raised.value)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"onnx is not installed.*'vireo\[export\]'"):
        require("export", "onnx")
    with pytest.raises(MissingExtraError, match=r"'vireo\[cpu\]' \(or 'vireo\[gpu\]'"):
        require("export", "onnxruntime")
    assert "vireo[data]" in str(missing("pyarrow", "data"))


def _brought(extras, name):
    """The distributions that an extra brings, those of the extras that it names included."""
    names = set()
    for requirement in extras[name]:
        if requirement.startswith("vireo["):
            for other in requirement.removeprefix("vireo[").removesuffix("]").split(","):
                names |= _brought(extras, other)
        else:
            names.add(requirement.partition(">=")[0].partition("[")[0])
    return names


def test_no_extra_brings_two_builds_and_the_base_none():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"] | {"base": project["dependencies"]}
    builds = {name: _brought(extras, name) for name in extras}
    for library in BUILDS.values():
        by_extra = {name: builds[name].intersection(library) for name in extras}
        assert all(len(brought) <= 1 for brought in by_extra.values()), by_extra
        bringing = {name for name, brought in by_extra.items() if brought}
        assert bringing - {"onnx"} == {"cpu", "gpu", "dev"}
