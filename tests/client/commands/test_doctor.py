"""`vireo doctor`: what it says of a machine, and when it fails."""

import json
import sys

import pytest
import typer
from support.triton_standin import Service, standing_in
from typer.testing import CliRunner
from vireo_client import diagnosis, environment
from vireo_client.commands.doctor import doctor

app = typer.Typer()
app.command()(doctor)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without programs, carrier and index; returns a function that runs the command."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv(environment.TRITON_CARRIER, str(tmp_path / "carrier"))
    for name in (environment.INDEX, environment.MODEL, environment.TRITON):
        monkeypatch.delenv(name, raising=False)

    def run(*words, code=0):
        result = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert result.exit_code == code, (result.output, result.exception)
        answer = json.loads(result.stdout)
        assert answer["healthy"] == (code == 0)
        assert all(f["advice"] for f in answer["findings"] if f["state"] == "broken")
        return {finding["topic"]: finding for finding in answer["findings"]}

    return run


def _program(tmp_path, name, script):
    path = tmp_path / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_machine_without_a_gpu_and_an_index_is_healthy_and_says_so(machine):
    found = machine()
    assert found["FAISS"]["found"].startswith("faiss-")
    assert found["ONNX Runtime"]["state"] == "ok"
    assert found["GPU"]["state"] == "missing"
    assert "nvidia-smi" in found["GPU"]["found"]
    assert found["GPU"]["advice"] == "all runs on the CPU"
    assert found["Triton to start"]["state"] == "missing"
    assert "in this process" in found["Towers"]["found"]
    assert found["Index"]["state"] == "missing"
    assert "vireo index FOLDER" in found["Index"]["advice"]
    assert "bf16" in found


@pytest.mark.parametrize(
    ("script", "cards", "reason"),
    [
        ("echo 'NVIDIA H100, 550.1, 81559 MiB'", 1, None),
        ("echo 'NVIDIA-SMI has failed: no driver'; exit 9", 0, "no driver"),
        ("exit 3", 0, "exit code 3"),
        ("true", 0, "lists none"),
    ],
)
def test_a_gpu_is_what_nvidia_smi_lists(machine, tmp_path, script, cards, reason):
    _program(tmp_path, "nvidia-smi", script)
    gpu = machine()["GPU"]
    if cards:
        assert (gpu["state"], gpu["found"]) == ("ok", "NVIDIA H100, 550.1, 81559 MiB")
    else:
        assert gpu["state"] == "missing"
        assert reason in gpu["found"]


def test_packages_that_leave_a_gpu_idle_are_named(machine, tmp_path):
    _program(tmp_path, "nvidia-smi", "echo 'NVIDIA H100, 550.1, 81559 MiB'")
    faiss = machine()["FAISS on GPUs"]
    assert (faiss["state"], "the GPU is not used" in faiss["found"]) == ("missing", True)
    assert "pip install 'vireo[gpu]'" in faiss["advice"]


def test_a_triton_to_start_is_found(machine, tmp_path):
    binary = tmp_path / "carrier" / environment.CARRIER_BINARY
    binary.parent.mkdir(parents=True)
    binary.touch()
    assert "carrier" in machine()["Triton to start"]["found"]
    _program(tmp_path, "tritonserver", "true")
    assert machine()["Triton to start"]["found"] == str(tmp_path / "bin" / "tritonserver")


def test_missing_packages_are_named_with_the_way_to_get_them(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = machine(code=1)["ONNX Runtime"]
    assert found["state"] == "broken"
    assert "pip install 'vireo[cpu]'" in found["advice"]
    with standing_in(Service("b")) as url:  # through Triton it is not needed
        assert machine("--triton", url)["ONNX Runtime"]["state"] == "missing"
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert machine(code=1)["FAISS"]["state"] == "broken"


def test_two_builds_of_one_library_are_broken(machine, monkeypatch):
    monkeypatch.setattr(diagnosis, "clashing_builds", lambda: ["keep one build"])
    assert machine(code=1)["Builds"]["advice"] == "keep one build"


def test_what_a_search_would_use_is_opened(machine, made):
    found = machine("--index", made)
    assert "6 images, 6 captions" in found["Index"]["found"]
    assert "small-bundle-0001" in found["Model"]["found"]
    assert found["Segmenter"]["found"] == "vncorenlp"
    made.rename(made.with_name("moved"))
    try:
        assert machine("--index", made, code=1)["Model"]["state"] == "broken"
    finally:
        made.with_name("moved").rename(made)
    (made / "catalogue.sqlite").rename(made / "gone")
    try:
        assert machine("--index", made, code=1)["Model"]["state"] == "broken"
    finally:
        (made / "gone").rename(made / "catalogue.sqlite")


def test_a_bundle_without_engines_is_no_model_repository(machine, bundle, repository):
    assert machine("--model", repository.folder)["Engines"]["state"] == "ok"
    found = machine("--model", bundle.folder, code=1)["Engines"]
    assert "vireo export" in found["advice"]
    assert str(bundle.folder) in found["found"]


def test_the_index_at_the_default_place_is_found(machine, made, tmp_path):
    (tmp_path / "vireo-index").symlink_to(made)
    assert "6 images" in machine()["Index"]["found"]


def test_a_server_says_what_it_is(machine):
    service = Service("bundle-7")
    with standing_in(service) as url:
        found = machine("--triton", url)
        assert found[f"Triton at {url}"]["found"] == "ready, version 2.0, bundle bundle-7"
        assert url in found["Towers"]["found"]
        service.ready = False
        assert "not ready" in machine("--triton", url, code=1)[f"Triton at {url}"]["found"]
        both = machine("--triton", f"{url},127.0.0.1:9", code=1)
        assert both["Triton at 127.0.0.1:9"]["state"] == "broken"
    assert machine("--triton", "a,,b", code=1)["Triton"]["state"] == "broken"


def test_for_a_person_it_prints_lines_as_they_come(machine, tmp_path):
    result = CliRunner().invoke(app, ["--index", f"{tmp_path}/\x1b[31mnope"])
    assert result.exit_code == 1
    assert result.stdout.startswith("ok       Python: ")
    assert "\\x1b[31mnope" in result.stdout
    assert "\x1b" not in result.stdout
