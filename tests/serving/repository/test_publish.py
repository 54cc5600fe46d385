"""Versions on disk: published in one step, kept, and rolled back."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from importlib import resources

import pytest
from support.repositories import publish_version
from support.text_models import write_model
from typer.testing import CliRunner
from vireo_client.bundle import Bundle
from vireo_client.cli import build_app
from vireo_client.errors import BundleError, ExportError
from vireo_client.repository import (
    ALL_MODELS,
    MASK_ROWS,
    MODELS,
    current_version,
    model_file,
    read_versions,
)
from vireo_serving.commands import rollback as rollback_command
from vireo_serving.configs.triton_config import CONFIG_FILE, ServingOptions, read_config
from vireo_serving.repository.publish import publishing, write_repository
from vireo_serving.repository.rollback import rollback
from vireo_serving.targets import TARGETS, OnnxRuntime, TensorRT

OF_CPU = [model for model in ALL_MODELS if model != MASK_ROWS]


def _publish(bundle, folder, mark, **options):
    return publish_version(bundle, folder, mark=mark, **options)


def _content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _configured(folder):
    """The version that all configurations name."""
    configs = [read_config(folder / model / CONFIG_FILE) for model in OF_CPU]
    versions = {v for config in configs for v in config.version_policy.specific.versions}
    versions |= {s.model_version for c in configs for s in c.ensemble_scheduling.step}
    (version,) = versions
    return version


def _is_in_use(folder, version, mark):
    assert current_version(folder) == _configured(folder) == version
    assert json.loads((folder / "parity.json").read_text())["mark"] == mark
    for model in MODELS:
        assert model_file(folder, model).read_text() == model + mark
    for model in OF_CPU:
        assert (folder / model / str(version)).is_dir()
        for warmed in read_config(folder / model / CONFIG_FILE).model_warmup:
            for value in warmed.inputs.values():
                assert (folder / model / "warmup" / value.input_data_file).is_file()
    Bundle(folder)


def test_each_export_is_a_new_version_beside_the_one_before(bundle, tmp_path):
    folder = tmp_path / "r"
    for version, mark in enumerate("abc", 1):
        _publish(bundle, folder, mark)
        _is_in_use(folder, version, mark)
    assert read_versions(folder) == (3, (2, 3))
    assert (folder / "text_encoder" / "2" / "model.onnx").read_text() == "text_encoderb"
    for model in OF_CPU:
        versions = {f.name for f in (folder / model).iterdir() if f.is_dir()} - {"warmup"}
        assert versions == {"2", "3"}
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize(
    ("keep", "kept"), [(1, (4,)), (2, (3, 4)), (3, (2, 3, 4)), (9, (1, 2, 3, 4))]
)
def test_the_number_of_kept_versions_can_be_chosen(bundle, tmp_path, keep, kept):
    for mark in "abcd":
        _publish(bundle, tmp_path / "r", mark, keep=keep)
    assert read_versions(tmp_path / "r") == (4, kept)


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ExportError, match="keep is 0"):
        with publishing(tmp_path / "r", keep=0):
            pass


def test_a_kept_version_is_self_contained_and_takes_no_room(bundle, tmp_path):
    folder = _publish(bundle, tmp_path / "r", "a")
    engine = (folder / "text_encoder" / "1" / "model.onnx").stat()
    _publish(bundle, folder, "b")
    assert (folder / "text_encoder" / "1" / "model.onnx").stat().st_ino == engine.st_ino
    version = folder / "text_encoder" / "1"
    for name in ("bundle.json", "tokenizer.json", "model.py", CONFIG_FILE):
        assert (version / name).is_file()
    assert (folder / "image_encoder" / "1" / "bundle.json").is_file()


def test_a_rollback_restores_everything(bundle, tmp_path):
    folder = tmp_path / "r"
    publish_version(bundle, folder, options=ServingOptions(max_batch_size=4), mark="a")
    first = _content(folder)
    publish_version(bundle, folder, options=ServingOptions(max_batch_size=9), mark="b")
    second = _content(folder)
    assert rollback(folder) == 1
    _is_in_use(folder, 1, "a")
    assert read_config(folder / "text_encoder" / CONFIG_FILE).max_batch_size == 4
    after = _content(folder)
    assert {p: after[p] for p in first if p.name != "versions.json"} == {
        p: first[p] for p in first if p.name != "versions.json"
    }
    assert rollback(folder, 2) == 2
    assert _content(folder) == second


def test_a_rollback_keeps_files_of_no_version(bundle, tmp_path):
    folder = _publish(bundle, tmp_path / "r", "a")
    _publish(bundle, folder, "b")
    (folder / "timing.cache").write_text("x")
    rollback(folder)
    _is_in_use(folder, 1, "a")
    assert (folder / "timing.cache").read_text() == "x"


@pytest.mark.parametrize(("first", "second"), [("cpu", "onnxruntime"), ("onnxruntime", "cpu")])
def test_versions_of_targets_with_other_models_lie_side_by_side(bundle, tmp_path, first, second):
    folder = tmp_path / "r"

    def configured():
        return {path.parent.name: read_config(path) for path in folder.glob(f"*/{CONFIG_FILE}")}

    publish_version(bundle, folder, TARGETS[first]())
    before = configured()
    publish_version(bundle, folder, TARGETS[second]())
    after = configured()
    assert set(before) ^ set(after) == {"mask_rows"}
    assert rollback(folder) == 1
    assert configured() == before
    assert rollback(folder, 2) == 2
    assert configured() == after


@pytest.mark.parametrize(
    "module", ["onnx_tower", "preprocess_text", "preprocess_image", "mask_rows"]
)
def test_models_in_the_server_need_the_light_client_alone(module):
    code = (resources.files("vireo_serving.models") / f"{module}.py").read_text("utf-8")
    imported = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    ours = {"vireo_client", "vireo_serving", "numpy", "onnxruntime", "triton_python_backend_utils"}
    assert imported <= ours | set(sys.stdlib_module_names)


def test_a_new_version_never_takes_an_old_number(bundle, tmp_path):
    folder = tmp_path / "r"
    for mark in "abc":
        _publish(bundle, folder, mark, keep=3)
    rollback(folder, 1)
    _publish(bundle, folder, "d")
    # The version that was current is kept, not the newer one that the rollback left.
    assert read_versions(folder) == (4, (1, 4))
    _is_in_use(folder, 4, "d")
    rollback(folder)
    _is_in_use(folder, 1, "a")


def test_a_rollback_to_no_version_is_refused(bundle, tmp_path):
    folder = _publish(bundle, tmp_path / "r", "a")
    before = _content(folder)
    with pytest.raises(BundleError, match=r"no older one is kept \(kept: 1\)"):
        rollback(folder)
    with pytest.raises(BundleError, match=r"no version 7 \(kept: 1\)"):
        rollback(folder, 7)
    with pytest.raises(BundleError, match="version 1 is in use already"):
        rollback(folder, 1)
    with pytest.raises(BundleError, match="no versions here"):
        rollback(tmp_path / "nowhere")
    assert _content(folder) == before
    (folder / "versions.json").write_text("{")
    with pytest.raises(BundleError, match=r"versions\.json: cannot be read"):
        rollback(folder)


def test_a_failed_rollback_leaves_the_version_in_use(bundle, tmp_path, monkeypatch):
    folder = _publish(bundle, tmp_path / "r", "a")
    _publish(bundle, folder, "b")
    before = _content(folder)
    (folder / "image_encoder" / "1" / CONFIG_FILE).rename(tmp_path / "aside")
    with pytest.raises(OSError, match=CONFIG_FILE):
        rollback(folder)
    (tmp_path / "aside").rename(folder / "image_encoder" / "1" / CONFIG_FILE)
    assert _content(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_export_leaves_the_version_in_use(bundle, tmp_path, error):
    folder = _publish(bundle, tmp_path / "r", "a")
    before = _content(folder)

    def fail():
        with publishing(folder) as draft:
            (draft / "half").write_text("x")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert _content(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_a_disk_that_fills_while_versions_are_kept_leaves_the_old_one(
    bundle, tmp_path, monkeypatch
):
    folder = _publish(bundle, tmp_path / "r", "a")
    before = _content(folder)

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises((OSError, shutil.Error), match="No space left"):
        _publish(bundle, folder, "b")
    assert _content(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


_KILLED = """
import os, signal, sys
from pathlib import Path
from vireo_serving.repository.rollback import rollback
from vireo_serving.repository import publish
from vireo_client import files

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "export":
    publish._keep = die
    with publish.publishing(Path(sys.argv[1])) as draft:
        (draft / "embed_text" / "3").mkdir(parents=True)
        (draft / "parity.json").write_text("{}")
else:
    files._exchange = die
    rollback(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("step", ["export", "rollback"])
def test_a_kill_leaves_the_version_in_use(bundle, tmp_path, step):
    folder = _publish(bundle, tmp_path / "r", "a")
    _publish(bundle, folder, "b")
    before = _content(folder)
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(_KILLED), folder, step])
    assert killed.returncode == -signal.SIGKILL
    assert _content(folder) == before
    _publish(bundle, folder, "c")
    _is_in_use(folder, 3, "c")


def test_without_hard_links_files_are_copied(bundle, tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = _publish(bundle, tmp_path / "r", "a")
    _publish(bundle, folder, "b")
    rollback(folder)
    _is_in_use(folder, 1, "a")
    _is_in_use(shutil.copytree(folder, tmp_path / "copy"), 1, "a")


def test_a_repository_from_before_there_were_versions_is_read_and_replaced(bundle, tmp_path):
    folder = tmp_path / "r"
    for model in MODELS:
        for version in ("2", "10"):
            (folder / model / version).mkdir(parents=True)
            (folder / model / version / "model.onnx").write_text(version)
    (folder / "parity.json").write_text("{}")
    assert model_file(folder, "text_encoder").read_text() == "10"
    _publish(bundle, folder, "a")
    _is_in_use(folder, 11, "a")
    assert read_versions(folder) == (11, (11,))


def test_a_plan_cannot_be_run_in_this_process(bundle, tmp_path):
    folder = publish_version(bundle, tmp_path / "r", TensorRT())
    with pytest.raises(BundleError, match=r"model\.plan, which runs in Triton alone.*--triton"):
        model_file(folder, "text_encoder")


def test_engines_of_another_target_are_refused(bundle, tmp_path):
    engines = {model: tmp_path / f"{model}.plan" for model in MODELS}
    with pytest.raises(ExportError, match=r"target onnxruntime runs \.onnx files"):
        write_repository(tmp_path, bundle, engines, ServingOptions(), target=OnnxRuntime())
    assert not list(tmp_path.iterdir())


def test_of_two_exports_at_once_the_second_is_refused(bundle, tmp_path):
    """Both would be version 2; the number must stand for one thing."""
    folder = _publish(bundle, tmp_path / "r", "a")

    def overtaken():
        with publishing(folder) as draft:
            (draft / "embed_text" / "2").mkdir(parents=True)
            _publish(bundle, folder, "b")

    with pytest.raises(ExportError, match="another export published version 2 meanwhile"):
        overtaken()
    _is_in_use(folder, 2, "b")


def test_the_command_rolls_back(bundle, tmp_path):
    folder = _publish(bundle, tmp_path / "r", "a")
    _publish(bundle, folder, "b")
    app = build_app()
    app.command("rollback")(rollback_command)  # as the entry point does
    done = CliRunner().invoke(app, ["rollback", str(folder)])
    assert done.exit_code == 0, done.output
    assert "version 1 is in use, 2 was (kept: 1, 2)" in done.output.replace("\n", " ")
    done = CliRunner().invoke(app, ["rollback", str(folder), "--to", "2"])
    assert done.exit_code == 0
    _is_in_use(folder, 2, "b")
    done = CliRunner().invoke(app, ["rollback", str(folder), "--to", "5"])
    assert isinstance(done.exception, BundleError)


def test_files_of_a_segmenter_are_published(bundle, tmp_path):
    named = tmp_path / "bundle"
    shutil.copytree(bundle.folder, named)
    described = json.loads((named / "bundle.json").read_text())
    described["text"] |= {
        "segmenter": "vncorenlp",
        "segmenter_files": ["vi-vocab", "wordsegmenter.rdr"],
    }
    (named / "bundle.json").write_text(json.dumps(described))
    write_model(named)
    folder = _publish(Bundle(named), tmp_path / "r", "a")
    for place in (folder, folder / "text_encoder" / "1"):
        for name in ("vi-vocab", "wordsegmenter.rdr"):
            assert (place / name).read_bytes() == (named / name).read_bytes()
