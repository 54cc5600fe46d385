"""Fixtures for TensorRT: the bindings, a stand-in, and the programs of a machine with a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path

import pytest

from support.tensorrt_bindings import MAJORS, Bindings, load_bindings
from support.tensorrt_standin import World, stand_in

_loaded: dict[int, Bindings] = {}


@pytest.fixture(params=MAJORS, ids=lambda major: f"tensorrt-{major}")
def bindings(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bindings:
    """The real bindings of each version."""
    major = request.param
    if major not in _loaded:
        _loaded[major] = load_bindings(major, tmp_path_factory.mktemp(f"tensorrt-{major}"))
    return _loaded[major]


@pytest.fixture
def world(bindings: Bindings, monkeypatch: pytest.MonkeyPatch) -> World:
    """A stand-in that `import tensorrt` returns."""
    stand = stand_in(bindings)
    monkeypatch.setitem(sys.modules, "tensorrt", stand.module)
    # An imported `network` would still refer to the module of an earlier test.
    monkeypatch.delitem(sys.modules, "vireo_export.tensorrt.network", raising=False)
    return stand


@pytest.fixture
def no_tensorrt() -> None:
    """Skip tests that are meaningful only on a machine without TensorRT."""
    if find_library("nvinfer"):
        pytest.skip("TensorRT's library is installed here")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Put a shell script on PATH, in the place of a missing program."""
    folder = tmp_path / "bin"

    def write(name: str, script: str) -> Path:
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    return write


L4 = "0, GPU-aaaa-1111, NVIDIA L4, 8.9"
A100 = "1, GPU-bbbb-2222, NVIDIA A100-SXM4-40GB, 8.0"


@pytest.fixture
def nvidia_smi(program: Callable[[str, str], Path]) -> Callable[..., Path]:
    """Put an `nvidia-smi` on PATH that lists GPUs as the driver's does, for our arguments only."""

    def write(*gpus: str) -> Path:
        lines = "\n".join(gpus)
        return program(
            "nvidia-smi",
            '[ "$*" = "--query-gpu=index,uuid,name,compute_cap --format=csv,noheader" ] || exit 2\n'
            f"cat <<'END'\n{lines}\nEND",
        )

    return write


@pytest.fixture
def l4(nvidia_smi: Callable[..., Path]) -> Path:
    """A machine with one L4."""
    return nvidia_smi(L4)
