"""The GPU and the TensorRT library of this machine."""

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
    """A kind of GPU. TensorRT ties a plan to one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    compute_capability: str
    """Such as `8.9`."""

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


def present_gpu() -> Gpu:
    """Return the GPU that CUDA programs started from here use, by the driver's own `nvidia-smi`.

    They use the first GPU in CUDA's order. Where the machine has several kinds of GPU, CUDA sorts
    them by speed and `nvidia-smi` by bus, so `CUDA_VISIBLE_DEVICES` must name one.

    Raises:
        EngineError: there is no driver or GPU, or several kinds of GPU and none is chosen.
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
    """Return index, name for CUDA and kind of every GPU."""
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
        output = (result.stdout + result.stderr).strip() or "nothing"
        raise EngineError(f"no GPU found: {program} said: {output}")
    return [
        (index, uuid, Gpu(name=name, compute_capability=capability))
        for index, uuid, name, capability in rows
    ]


def present_tensorrt() -> str:
    """Return the version of the TensorRT library that programs started from here load.

    That is the library that the loader finds, which Triton takes too; without one, the library that
    pip installed for Python.

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
