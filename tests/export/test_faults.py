"""Faults of an export: in every case the old repository is unchanged."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from support.processes import start
from torch import nn
from vireo_client.errors import ExportError, ParityError
from vireo_export.export import EngineOptions, export
from vireo_export.onnx.operators import check_operators
from vireo_export.onnx.optimise import optimise
from vireo_export.precision import Precisions
from vireo_serving.targets import Cpu, TensorRT
from vireo_training.sources import Source, open_source

_EXPORT = """
from pathlib import Path
from vireo_client.captions import read_captions
from vireo_client.errors import VireoError
from vireo_export.export import EngineOptions, export
from vireo_export.precision import Precisions
from vireo_training.sources import open_source
import resource, sys
records = read_captions(Path({data!r})).records[:16]
source = open_source({bundle!r})
print("start", flush=True)
if {room}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
try:
    export(source, Path({target!r}), records, None, EngineOptions(Precisions.parse({precision!r})))
except VireoError as error:
    print("error:", error)
"""

_INTERRUPT = """
import signal
from vireo_client.progress import console
enter = console.status
def status(text, *args, **options):
    if text == {stage!r}:
        print("interrupted:", text, flush=True)
        signal.raise_signal(signal.SIGINT)
    return enter(text, *args, **options)
console.status = status
"""


@pytest.fixture
def old(repository, tmp_path):
    """A repository that serves, and its files."""
    target = shutil.copytree(repository.folder, tmp_path / "r" / "model_repository")
    return target, {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}


def _unchanged(target, before):
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def _script(bundle, scenes, target, *, room=0, precision="fp32"):
    return _EXPORT.format(
        data=str(scenes / "test"), bundle=str(bundle.folder), target=str(target), room=room,
        precision=precision,
    )  # fmt: skip


def test_a_disk_that_fills_leaves_the_old_repository(bundle, scenes, old):
    target, before = old
    script = _script(bundle, scenes, target, room=100_000)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be written" in done.stdout, done.stdout + done.stderr
    assert "make room there" in done.stdout
    _unchanged(target, before)


@pytest.mark.parametrize(
    "stage",
    [
        "exporting towers to ONNX",
        "making the text tower's engine in int8",
        "comparing engines with PyTorch",
    ],
)
def test_ctrl_c_leaves_the_old_repository(bundle, scenes, old, stage):
    """The process interrupts itself as it enters a stage: no clock decides where it is."""
    target, before = old
    script = _INTERRUPT.format(stage=stage) + _script(bundle, scenes, target, precision="int8")
    process = start([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.communicate(timeout=300)
    assert output == f"start\ninterrupted: {stage}\n"
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    _unchanged(target, before)


class Foreign(nn.Module):
    """A tower with a custom operator."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        vectors = self.tower(inputs)
        return torch.onnx.ops.symbolic(
            "com.example::Sharpen", (vectors,), dtype=vectors.dtype, shape=vectors.shape, version=1
        )


@pytest.mark.parametrize("target", [Cpu(), TensorRT(dry_run=True)], ids=lambda t: t.name)
def test_an_operator_that_the_target_lacks_is_named(bundle, test_records, old, target):
    source = open_source(bundle.folder)
    foreign = Source(source.bundle, source.text_tower, Foreign(source.image_tower).eval())
    folder, before = old
    options = EngineOptions(target=target)
    lacking = rf"target {target.name} has no operator com.example::Sharpen \(node '.+'\)"
    with pytest.raises(ExportError, match=f"image_encoder: {lacking}"):
        export(foreign, folder, test_records[:16], None, options)
    _unchanged(folder, before)


def test_fused_operators_are_for_onnx_runtime_alone(repository, tmp_path):
    path = repository.folder / "text_encoder" / "1" / "model.onnx"
    check_operators(path, "text_encoder", Cpu())
    with pytest.raises(ExportError, match=r"target tensorrt has no operator com\.microsoft::"):
        check_operators(path, "text_encoder", TensorRT())
    optimise(path, tmp_path / "model.onnx", TensorRT())


def test_int8_is_not_for_tensorrt(bundle, test_records, old):
    folder, before = old
    options = EngineOptions(Precisions("int8", "fp32"), TensorRT(dry_run=True))
    with pytest.raises(ExportError, match="int8: these engines are made for CPUs"):
        export(open_source(bundle.folder), folder, test_records[:16], None, options)
    _unchanged(folder, before)


_REFUSED = (
    r"image_encoder: no INT8 engine .*Tried: entropy \(cosine 0\.\d+ at worst over 16 inputs, "
    r"0\.9999999 is required\); percentile \("
)


def test_int8_that_loses_too_much_is_refused_with_its_figures(bundle, test_records, old, tmp_path):
    """The bundle asks for more than INT8 can give: each way of quantising is tried, and refused."""
    strict = shutil.copytree(bundle.folder, tmp_path / "strict")
    config = json.loads((strict / "bundle.json").read_text())
    config["export"]["int8"]["min_cosine"] = 0.9999999
    (strict / "bundle.json").write_text(json.dumps(config))
    folder, before = old
    options = EngineOptions(Precisions("fp32", "int8"))
    with pytest.raises(ParityError, match=_REFUSED):
        export(open_source(strict), folder, test_records[:16], None, options)
    _unchanged(folder, before)
