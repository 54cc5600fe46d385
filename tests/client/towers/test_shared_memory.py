"""Shared memory as far as it needs no server: the names that CUDA's path uses, and a full disk.

Regions in a real Triton are tested in tests/integration/test_connections.py.
"""

import ast
import importlib.util
import inspect
import os
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support.triton_standin import Service, standing_in
from vireo_client.errors import ServerError
from vireo_client.towers import shared_memory
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.pool import Endpoint
from vireo_client.towers.shared_memory import Regions, SystemRegion
from vireo_client.towers.triton import TritonTowers


def test_the_names_that_the_path_through_a_gpu_relies_on():
    """There is no GPU here. The module is read, not imported: it needs cuda-python."""
    package = importlib.util.find_spec("tritonclient.utils")
    source = Path(package.origin).parent / "cuda_shared_memory" / "__init__.py"
    functions = {
        node.name: [argument.arg for argument in node.args.args]
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert functions["create_shared_memory_region"] == ["triton_shm_name", "byte_size", "device_id"]
    assert functions["set_shared_memory_region"][:2] == ["cuda_shm_handle", "input_values"]
    assert functions["get_raw_handle"] == ["cuda_shm_handle"]
    assert functions["destroy_shared_memory_region"] == ["cuda_shm_handle"]
    registering = inspect.signature(grpc.InferenceServerClient.register_cuda_shared_memory)
    assert list(registering.parameters)[1:5] == ["name", "raw_handle", "device_id", "byte_size"]


@pytest.mark.skipif(importlib.util.find_spec("cuda") is not None, reason="cuda-python is installed")
def test_cuda_without_its_package_is_named(bundle):
    with standing_in(Service(bundle.bundle_id)) as url:
        with pytest.raises(ServerError, match="cuda-python"):
            TritonTowers(bundle, url, options=ConnectionOptions(shared_memory="cuda"))


def test_a_region_holds_what_was_written_and_is_unlinked():
    region = SystemRegion(1000)
    file = Path("/dev/shm") / region.name
    region.write(np.arange(100, dtype=np.uint8))
    assert file.read_bytes()[:100] == bytes(range(100))
    region.destroy()
    assert not file.exists()


def test_a_region_in_use_while_the_client_is_closed_is_unlinked():
    endpoint = Endpoint("127.0.0.1:1", None, max_batch_size=8)
    regions = Regions(ConnectionOptions(shared_memory="system"), [endpoint])
    pixels = np.zeros((1, 4), np.uint8)
    tensor = grpc.InferInput("pixels", [1, 4], "UINT8")
    request = regions.infer(endpoint, tensor, pixels, ("image_encoder", "1"), {})
    next(request)
    assert len(_regions()) == 1
    assert list(regions.close()) == []
    request.close()
    assert _regions() == []


def _regions():
    return list(Path("/dev/shm").glob(f"vireo_{os.getpid()}_client_*"))


def test_a_region_that_does_not_fit_is_refused_before_it_is_written_to(monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shared_memory.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        SystemRegion(1000)
    assert _regions() == []
