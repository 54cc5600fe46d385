"""NVIDIA's real Python bindings for TensorRT, imported without TensorRT.

The bindings are a compiled module that links to three libraries. Here these are stubs, compiled
from the few lines below, which export the C functions that the bindings import and do nothing. So
the import succeeds, and every class, method, enum and signature can be inspected. No builder,
parser or engine can be created, so these tests show nothing of what TensorRT does.

mypy's stubgen writes a typing stub of the module from pybind11's docstrings. Our code is checked
against that stub, and the stand-in is made from it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

MAJORS = (10, 11)

# For each library, the functions that the bindings import (`nm -D --undefined-only` lists them).
_LIBRARIES = {
    "nvinfer": (
        "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL", "getBuilderPluginRegistry", "getPluginRegistry",
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
    "nvonnxparser": (
        "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ),
}  # fmt: skip

# Facts that typing stubs lack: the values of enums, and which classes can be read as bytes.
_FACTS = """
import ctypes, json, tensorrt_bindings as trt
slot = ctypes.pythonapi.PyType_GetSlot
slot.restype, slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
enums = {
    name: {member: int(value) for member, value in kind.__members__.items()}
    for name, kind in [*vars(trt).items(), ("ILogger.Severity", trt.ILogger.Severity)]
    if hasattr(kind, "__members__")
}
BUFFER = 1  # Py_bf_getbuffer
buffers = [n for n, k in vars(trt).items() if isinstance(k, type) and slot(k, BUFFER)]
print(json.dumps({"version": trt.__version__, "enums": enums, "buffers": buffers}))
"""


@dataclass(frozen=True)
class Bindings:
    """One version's bindings."""

    major: int
    package: Path
    """The folder to put on the import path."""
    libraries: Path
    stubs: Path
    """A folder with a typing stub of `tensorrt`."""
    version: str
    enums: dict[str, dict[str, int]]
    buffers: list[str]

    @property
    def stub(self) -> str:
        """The typing stub's text."""
        return (self.stubs / "tensorrt" / "__init__.pyi").read_text("utf-8")

    def environment(self) -> dict[str, str]:
        """An environment in which `import tensorrt_bindings` works."""
        path = os.pathsep.join([str(self.package), *sys.path])
        return {**os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": str(self.libraries)}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with the bindings on its path."""
        return subprocess.run(
            [sys.executable, *arguments], env=self.environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip


def compile_library(folder: Path, name: str, source: str) -> Path:
    """Compile C into `lib<name>` with that soname; skip the test if there is no gcc."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc to compile stubs of TensorRT's libraries")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"lib{name}"
    command = [gcc, "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", path, "-x", "c", "-"]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def version_functions(*numbers: int) -> str:
    """Return C source of the functions that return the version of TensorRT's library."""
    return "\n".join(
        f"int getInferLib{part}Version(void) {{ return {number}; }}"
        for part, number in zip(("Major", "Minor", "Patch", "Build"), numbers, strict=True)
    )


def load_bindings(major: int, folder: Path) -> Bindings:
    """Compile the stub libraries, import the bindings with them, and write their typing stub.

    The test is skipped if `make setup` could not install the bindings.
    """
    folder_of_bindings = Path(sys.prefix) / "share" / "tensorrt-bindings"
    packages = sorted(folder_of_bindings.glob(f"{major}.*"))
    if not packages:
        pytest.skip(
            f"no tensorrt bindings of version {major} in {folder_of_bindings}; "
            "`make setup` installs them"
        )
    libraries = folder / "lib"
    for name, functions in _LIBRARIES.items():
        source = "\n".join(f"void *{function}(void) {{ return 0; }}" for function in functions)
        compile_library(libraries, f"{name}.so.{major}", source)
    bindings = Bindings(major, packages[-1], libraries, folder / "stubs", "", {}, [])
    stubgen = "from mypy.stubgen import main; main()"
    module = "tensorrt_bindings.tensorrt"
    written = bindings.python(
        "-c", stubgen, "--inspect-mode", "-q", "-m", module, "-o", str(folder / "raw")
    )
    assert written.returncode == 0, written.stderr
    looked_up = bindings.python("-c", _FACTS)
    assert looked_up.returncode == 0, looked_up.stderr
    facts = json.loads(looked_up.stdout)
    raw = (folder / "raw" / "tensorrt_bindings" / "tensorrt.pyi").read_text("utf-8")
    (folder / "stubs" / "tensorrt").mkdir(parents=True)
    stub = folder / "stubs" / "tensorrt" / "__init__.pyi"
    stub.write_text(_completed(raw, facts["buffers"]), encoding="utf-8")
    return Bindings(major, packages[-1], libraries, folder / "stubs", **facts)


def _completed(stub: str, buffers: list[str]) -> str:
    """Complete stubgen's text, so that mypy checks the places that stubgen leaves open."""
    # The bindings name this result by its C++ type; in Python it is a ParserError.
    unnamed = "def get_error(self, *args, **kwargs): ..."
    assert unnamed in stub
    stub = stub.replace(unnamed, "def get_error(self, index: int) -> ParserError: ...", 1)
    # 11 annotates its int arguments as SupportsInt; a method that we override receives an int.
    stub = stub.replace("typing.SupportsInt", "int").replace("typing.SupportsFloat", "float")
    # 10 annotates readable memory as "buffer", which is not a type. Its data type named `bool`
    # would hide Python's own in every signature.
    stub = stub.replace(": buffer", ": typing_extensions.Buffer").replace("bool: DataType\n", "")
    for name in buffers:
        line = f"class {name}:\n"
        assert line in stub
        method = "    def __buffer__(self, flags: int, /) -> memoryview: ...\n"
        stub = stub.replace(line, line + method)
    # One signature is not valid Python (a parameter with a default before one without).
    stub = "\n".join(line for line in stub.split("\n") if "def add_scale_nd(" not in line)
    # NVIDIA's tensorrt/__init__.py holds the compiled module's names and a version.
    return (
        "import collections.abc\nimport typing\nimport typing_extensions\n__version__: str\n" + stub
    )
