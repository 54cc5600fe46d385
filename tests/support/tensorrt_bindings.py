"""NVIDIA's real Python bindings for TensorRT, imported without TensorRT.

The bindings are a compiled module that links to three libraries. Here these are stubs, compiled
from the few lines below, which export the C functions that the bindings ask for and do nothing. So
the import succeeds and every class, method, enum and signature can be looked at; but no builder,
parser or engine comes out of it. Nothing that rests on this says anything about what TensorRT does.

mypy's stubgen writes the module down as a typing stub, method by method from what pybind11 says of
each. That text is what our code is checked against, and what the stand-in is made from.
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

# Each library and the functions that `nm -D --undefined-only` shows the bindings to need of it.
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

# What typing stubs leave out: the numbers behind enums, and whether memory can be read as bytes.
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
        """Runs Python with the bindings on its path."""
        return subprocess.run(
            [sys.executable, *arguments], env=self.environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip


def compile_library(folder: Path, name: str, source: str) -> Path:
    """Compiles C into `lib<name>` with that soname; the test is skipped where there is no gcc."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("no gcc, which compiles stubs in the place of TensorRT's libraries")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"lib{name}"
    command = [gcc, "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", path, "-x", "c", "-"]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def version_functions(*numbers: int) -> str:
    """Writes the C functions by which TensorRT's library tells its version."""
    return "\n".join(
        f"int getInferLib{part}Version(void) {{ return {number}; }}"
        for part, number in zip(("Major", "Minor", "Patch", "Build"), numbers, strict=True)
    )


def load_bindings(major: int, folder: Path) -> Bindings:
    """Compiles the stub libraries, imports the bindings over them, and writes them down.

    The test is skipped, saying why, where `make setup` could not install the bindings.
    """
    where = Path(sys.prefix) / "share" / "tensorrt-bindings"
    found = sorted(where.glob(f"{major}.*"))
    if not found:
        pytest.skip(f"no tensorrt bindings of version {major} in {where}; `make setup` brings them")
    libraries = folder / "lib"
    for name, functions in _LIBRARIES.items():
        source = "\n".join(f"void *{function}(void) {{ return 0; }}" for function in functions)
        compile_library(libraries, f"{name}.so.{major}", source)
    bindings = Bindings(major, found[-1], libraries, folder / "stubs", "", {}, [])
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
    return Bindings(major, found[-1], libraries, folder / "stubs", **facts)


def _completed(stub: str, buffers: list[str]) -> str:
    """Adds to stubgen's text what it does not see, so that mypy checks those places too."""
    # The bindings give this result by its C++ name; in Python it is a ParserError.
    unnamed = "def get_error(self, *args, **kwargs): ..."
    assert unnamed in stub
    stub = stub.replace(unnamed, "def get_error(self, index: int) -> ParserError: ...", 1)
    # 11 says what its arguments are made into an int from; a method that we override gets an int.
    stub = stub.replace("typing.SupportsInt", "int").replace("typing.SupportsFloat", "float")
    # 10 calls readable memory "buffer", which is no type; and the data type of that name would
    # hide Python's own from every signature.
    stub = stub.replace(": buffer", ": typing_extensions.Buffer").replace("bool: DataType\n", "")
    for name in buffers:
        line = f"class {name}:\n"
        assert line in stub
        method = "    def __buffer__(self, flags: int, /) -> memoryview: ...\n"
        stub = stub.replace(line, line + method)
    # One signature of theirs is no Python (a default before none). A call to it would be an error.
    stub = "\n".join(line for line in stub.split("\n") if "def add_scale_nd(" not in line)
    # NVIDIA's tensorrt/__init__.py is the compiled module and a version.
    return (
        "import collections.abc\nimport typing\nimport typing_extensions\n__version__: str\n" + stub
    )
