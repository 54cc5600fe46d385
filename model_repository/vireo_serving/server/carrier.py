"""The carrier: a real Triton server binary for machines without NVIDIA's server image.

The wheel of nvidia-pytriton holds the tritonserver binary with the Python backend. It is unpacked
into a folder of its own, without its dependencies (its metadata asks for numpy < 2, and none of its
Python code is used), and is never imported.
"""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from vireo_client import environment
from vireo_client.errors import ServerError
from vireo_client.files import replacing
from vireo_client.held import temporary_folder

WHEEL = "nvidia-pytriton==0.7.0"
_HASHES = (
    "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df",
    "f99e07ee56fe065337453956afba17d2673e02ec6a632c3de26ce6e7b32a0898",
)
"""SHA-256 of its files, one a platform; pip refuses another file."""
_FOLDER = "pytriton/tritonserver"
_LIBRARIES = "nvidia_pytriton.libs"
_STUB = "triton_python_backend_stub"


@dataclass(frozen=True, slots=True)
class Carrier:
    """An unpacked carrier, ready to start."""

    binary: Path
    backends: Path
    caches: Path
    libraries: list[Path]
    """Folders for the dynamic loader."""


def install(folder: Path | None = None) -> Path:
    """Fetch the wheel with pip and complete its Python backend for this interpreter.

    Raises:
        ServerError: pip fails, or there is no Triton for this platform or interpreter.
    """
    target = folder or environment.carrier_folder()
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile",
               "--only-binary", ":all:", "--require-hashes",
               "--disable-pip-version-check"]  # fmt: skip
    with (
        replacing(target, marker=f"{_FOLDER}/bin/tritonserver") as draft,
        temporary_folder("vireo-carrier-") as scratch,
    ):
        wheel = scratch / "wheel.txt"  # hashes can only be given in a file
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in _HASHES)
        wheel.write_text(f"{WHEEL} {hashes}\n", encoding="utf-8")
        command += ["--target", str(draft), "-r", str(wheel)]
        done = subprocess.run(command, text=True, stderr=subprocess.PIPE)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise ServerError(
                f"{WHEEL} cannot be installed ({lines[0] if lines else 'pip failed'}); it exists "
                "for Linux on x86-64; elsewhere give --triton PATH or use Triton's own image"
            )
        _complete(draft)
    return target


def _complete(root: Path) -> None:
    """Copy the stub of the running Python beside the Python backend."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = root / _FOLDER / "python_backend_stubs" / version / _STUB
    if not stub.is_file():
        raise ServerError(f"{WHEEL} has no Python backend stub for Python {version}")
    placed = root / _FOLDER / "backends" / "python" / _STUB
    shutil.copyfile(stub, placed)
    placed.chmod(0o755)
    (root / _FOLDER / "bin" / "tritonserver").chmod(0o755)


def find(folder: Path | None = None) -> Carrier | None:
    """Return the installed carrier, or None where there is none.

    Raises:
        ServerError: the interpreter's shared library, which the stub needs, is not on the machine.
    """
    root = folder or environment.carrier_folder()
    base = root / _FOLDER
    binary = base / "bin" / "tritonserver"
    if not binary.is_file():
        return None
    libraries = [root / _LIBRARIES]
    if python_library := _python_library_folder():
        libraries.append(python_library)
    return Carrier(binary, base / "backends", base / "caches", libraries)


def _python_library_folder() -> Path | None:
    """Return the folder of `libpython3.x.so.1.0`, or None where the loader finds it itself."""
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    own = Path(sysconfig.get_config_var("LIBDIR") or "/nonexistent")
    if (own / name).is_file():
        return own
    if ctypes.util.find_library(name.removeprefix("lib").split(".so")[0]):
        return None
    raise ServerError(
        f"{name} is not on this machine, and Triton's Python backend links it; install the "
        f"interpreter's shared library (Debian: apt install {name.split('.so')[0]})"
    )
