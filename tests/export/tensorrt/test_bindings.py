"""Every use of TensorRT in our sources, checked against the real bindings of 10 and 11.

This shows that the bindings have each name, enum member, field, argument and result that our code
uses. It shows nothing of what TensorRT's libraries do. See support/tensorrt_bindings.py.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPORT = Path(__file__).parents[3] / "export"


def _uses_tensorrt(path):
    """Return whether a source file imports TensorRT anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return "tensorrt" in names


SOURCES = sorted(
    path
    for root in (EXPORT, EXPORT.parent / "model_repository")
    for path in root.rglob("*.py")
    if _uses_tensorrt(path)
)


@pytest.fixture
def type_errors(bindings, tmp_path):
    """Type check source files against the bindings; other imports are not followed."""
    config = tmp_path / "mypy.ini"
    config.write_text(
        "[mypy]\nstrict = True\nfollow_imports = skip\ndisallow_subclassing_any = False\n"
        "warn_unused_ignores = False\nexplicit_package_bases = True\n"
        "[mypy-tensorrt.*]\nfollow_imports = normal\nignore_errors = True\n"
    )
    # An editable installation shows the packages to Python, but not to mypy.
    roots = [EXPORT.parent / name for name in ("client", "model_repository", "training", "export")]
    path = os.pathsep.join(map(str, [bindings.stubs, *roots]))

    def check(*sources):
        result = subprocess.run(
            [sys.executable, "-m", "mypy", "--config-file", config, "--hide-error-context",
             "--no-error-summary", "--cache-dir", bindings.stubs.parent / "cache", *sources],
            env={**os.environ, "MYPYPATH": path}, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert result.returncode in (0, 1), result.stdout + result.stderr
        return result.stdout.splitlines()

    return check


def test_the_sources_that_use_tensorrt_are_found():
    assert EXPORT / "vireo_export" / "tensorrt" / "network.py" in SOURCES


def test_every_use_of_tensorrt_is_one_that_the_bindings_have(type_errors):
    assert type_errors(*SOURCES) == []


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("trt.Bilder(logger)", "Bilder"),
        ("config.set_flags(trt.BuilderFlag.TF32)", "set_flags"),
        ("config.set_flag(trt.BuilderFlag.FASTER)", "FASTER"),
        ("config.set_flag(trt.MemoryPoolType.WORKSPACE)", "set_flag"),
        ("config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, '4G')", "pool_limit"),
        ("config.set_memory_pool_limit(pool=trt.MemoryPoolType.WORKSPACE, size=4)", "size"),
        ("config.set_timing_cache(config.get_timing_cache())", "ignore_mismatch"),
        ("config.builder_optimisation_level = 3", "builder_optimisation_level"),
        ("config.builder_optimization_level = '3'", "str"),
        ("config.num_optimization_profiles = 3", "num_optimization_profiles"),
        ("builder.build_serialized_network(network)", "build_serialized_network"),
        ("trt.OnnxParser(network, logger).parse_from_file(b'model.onnx')", "parse_from_file"),
        ("trt.OnnxParser(network, logger).get_error(0).reason()", "reason"),
        ("memoryview(builder.create_optimization_profile())", "memoryview"),
    ],
)
def test_a_wrong_use_would_be_found(type_errors, tmp_path, wrong, named):
    source = tmp_path / "wrong.py"
    source.write_text(
        "import tensorrt as trt\n"
        "def use(logger: trt.ILogger) -> None:\n"
        "    builder = trt.Builder(logger)\n"
        "    network = builder.create_network(1)\n"
        "    config = builder.create_builder_config()\n"
        "    config.add_optimization_profile(builder.create_optimization_profile())\n"
        "    print(network)\n"
        f"    {wrong}\n"
    )
    errors = [line for line in type_errors(source) if " error: " in line]
    assert errors, "nothing was found"
    assert all(line.startswith("wrong.py:8:") for line in errors), errors
    assert any(named in line for line in errors), errors


_PROBE = """
import json, sys, threading
import tensorrt_bindings
sys.modules["tensorrt"] = tensorrt_bindings
from rich.progress import Progress
import tensorrt as trt
from vireo_export.tensorrt import network

logger = network.Logger()
logger.log(trt.ILogger.Severity.ERROR, "no room")
cancelled = threading.Event()
monitor = network.Monitor(Progress(disable=True), cancelled)
monitor.phase_start("build", None, 2)
monitor.phase_start("tactics", "build", 4)
going = monitor.step_complete("tactics", 0)
monitor.phase_finish("tactics")
cancelled.set()
stopped = monitor.step_complete("build", 0)
try:
    network.serialize("g.onnx", [], None, timing_cache=b"", progress=None, cancelled=cancelled)
except Exception as error:
    refused = f"{type(error).__name__}: {error}"
print(json.dumps({
    "errors": logger.errors, "going": going, "stopped": stopped, "refused": refused,
    "flags": network._network_flags(), "dims": list(trt.Dims([1, 3, 8, 8])),
    "is logger": isinstance(logger, trt.ILogger),
    "is monitor": isinstance(monitor, trt.IProgressMonitor),
}))
"""


def test_our_classes_work_in_the_real_bindings(bindings):
    """The real module creates our logger and monitor, and its `Builder` accepts the logger.

    The stub library then returns no builder, as TensorRT does without a GPU. So the real path of
    that error runs, up to the message.
    """
    result = bindings.python("-c", _PROBE)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["refused"].startswith(f"ExportError: TensorRT {bindings.version} cannot start")
    assert "nvidia-smi" in report["refused"]
    assert report["errors"] == ["no room"]
    assert (report["going"], report["stopped"]) == (True, False)
    assert report["is logger"]
    assert report["is monitor"]
    assert report["dims"] == [1, 3, 8, 8]
    # Bit 1 is STRONGLY_TYPED in 10; in 11 all networks are strongly typed.
    assert report["flags"] == {10: 2, 11: 0}[bindings.major]


def test_serialized_memory_can_be_read_as_bytes(bindings):
    assert "IHostMemory" in bindings.buffers
    assert "Builder" not in bindings.buffers
