"""Which GPU and which TensorRT this machine has."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

from pydantic import BaseModel, ConfigDict
from vireo_client.errors import EngineError

MAJOR_VERSIONS = (11, 10)
"""The TensorRT versions that Vireo builds for, newest first."""

_QUERY = ("--query-gpu=index,uuid,name,compute_cap", "--format=csv,noheader")
_TIMEOUT = 60.0  # seconds; the driver of a machine with many GPUs wakes up slowly


class Gpu(BaseModel):
    """A kind of GPU: what TensorRT ties a plan to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    compute_capability: str
    """Such as `8.9`."""

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


def present_gpu() -> Gpu:
    """Asks the driver's own `nvidia-smi` for the GPU that CUDA programs started from here take.

    That is the first one CUDA sees. Where all GPUs of the machine are of one kind the answer is
    plain; where they differ, CUDA sorts them by speed and `nvidia-smi` by bus, so the choice must
    be spelled out in `CUDA_VISIBLE_DEVICES`.

    Raises:
        EngineError: there is no driver or GPU, or it is unclear which of several kinds is meant.
    """
    gpus = _list_gpus()
    kinds = {gpu for _, _, gpu in gpus}
    if len(kinds) == 1:
        return kinds.pop()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    for index, uuid, gpu in gpus:
        if (by_bus and first == index) or (first.startswith("GPU-") and uuid.startswith(first)):
            return gpu
    raise EngineError(
        f"this machine has several kinds of GPU ({', '.join(sorted(map(str, kinds)))}) and it is "
        "not said which one is meant: set CUDA_VISIBLE_DEVICES to the GPU-... name that "
        "`nvidia-smi -L` shows"
    )


def _list_gpus() -> list[tuple[str, str, Gpu]]:
    """Lists index, name for CUDA and kind of every GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        raise EngineError(
            "no GPU found: nvidia-smi is not on PATH; install NVIDIA's driver, or do this on the "
            "machine with the GPU"
        )
    try:
        result = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"no GPU found: {program} did not answer ({error})") from error
    rows = [[cell.strip() for cell in line.split(",")] for line in result.stdout.splitlines()]
    if result.returncode != 0 or not rows or any(len(row) != 4 for row in rows):
        said = (result.stdout + result.stderr).strip() or "nothing"
        raise EngineError(f"no GPU found: {program} said: {said}")
    return [
        (index, uuid, Gpu(name=name, compute_capability=capability))
        for index, uuid, name, capability in rows
    ]


def present_tensorrt() -> str:
    """Gives the version of the TensorRT library that programs started from here load.

    The library that the loader finds is asked first, because Triton takes that one; then the one
    that pip brought for Python.

    Returns:
        A version of four numbers, such as `11.4.0.106`.

    Raises:
        EngineError: there is no TensorRT.
    """
    for major in MAJOR_VERSIONS:
        try:
            library = ctypes.CDLL(f"libnvinfer.so.{major}")
        except OSError:
            continue
        parts = ("Major", "Minor", "Patch", "Build")
        return ".".join(str(library[f"getInferLib{part}Version"]()) for part in parts)
    try:
        import tensorrt as trt
    except (ImportError, OSError):
        names = " or ".join(f"libnvinfer.so.{major}" for major in MAJOR_VERSIONS)
        raise EngineError(
            f"no TensorRT found: the loader knows no {names} and Python has no tensorrt; install "
            "it, or do this where it is installed, such as in NVIDIA's Triton image"
        ) from None
    return str(trt.__version__)
