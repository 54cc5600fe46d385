"""Importing the library changes nothing that the whole process shares, and loads little."""

import subprocess
import sys

_STATE = """
import importlib, logging, os, pkgutil, sys, warnings

def load():
    import vireo_client
    for module in pkgutil.walk_packages(vireo_client.__path__, "vireo_client."):
        importlib.import_module(module.name)
    return sorted(name for name in sys.modules if name.split(".")[0] == "vireo_client")

def state():
    root = logging.getLogger()
    ours = logging.getLogger("vireo_client")
    return (list(warnings.filters), dict(os.environ), root.level, list(root.handlers), ours.level,
            list(ours.handlers), logging.root.manager.disable, sys.excepthook, list(sys.path))

modules = load()  # now the libraries that we import have made their own changes
assert len(modules) > 40, modules
for name in modules:
    del sys.modules[name]
before = state()
assert load() == modules
assert state() == before, (before, state())
"""

_LIGHT = """
import sys
import vireo_client
heavy = {"faiss", "torch", "numpy", "onnxruntime", "tritonclient", "grpc", "PIL", "pandas",
         "pyarrow", "asyncio", "pydantic"} & set(sys.modules)
assert not heavy, heavy
assert vireo_client.VireoError
"""

_SEARCH = """
import sys
from vireo_client import AsyncSearchClient, SearchClient
heavy = {"torch", "tritonclient", "grpc", "pandas", "pyarrow", "onnxruntime"} & set(sys.modules)
assert not heavy, heavy
"""

_WITHOUT_TORCH = """
import importlib, pkgutil, sys
from unittest.mock import MagicMock

for package in ("torch", "torchvision", "timm", "transformers", "vireo_training", "vireo_export"):
    sys.modules[package] = None  # importing it fails
sys.modules["triton_python_backend_utils"] = MagicMock()  # exists in Triton's own processes alone
for package in ("vireo_client", "vireo_serving"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
        print(module.name)
"""


def _run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_every_module_changes_no_global():
    _run(_STATE)


def test_the_package_alone_imports_no_library():
    _run(_LIGHT)


def test_the_clients_import_only_what_a_local_search_needs():
    _run(_SEARCH)


def test_client_and_server_import_without_torch():
    modules = _run(_WITHOUT_TORCH)
    assert "vireo_serving.models.onnx_tower" in modules
    assert len(modules) > 80
