"""What can be proved without a GPU; `benchmarks/index_gpu.py` runs the rest on a machine with one.

With FAISS's build for GPUs (`faiss-gpu` 1.15.1 imports on any machine) the constructors get as far
as the device, so that names and types of arguments are checked; those tests skip on its CPU build.
"""

import faiss
import numpy as np
import pytest
from vireo_client.errors import MissingExtraError, SearchIndexError
from vireo_client.index import gpu, kinds
from vireo_client.index.gpu import GpuOptions, GpuStructure, open_gpu

HAS_SYMBOLS = hasattr(faiss, "StandardGpuResources")
with_symbols = pytest.mark.skipif(not HAS_SYMBOLS, reason="FAISS is its build for CPUs")
without_gpu = pytest.mark.skipif(
    HAS_SYMBOLS and faiss.get_num_gpus() > 0, reason="there is a GPU here"
)


def vectors(rows=2000, dim=16):
    made = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.skipif(HAS_SYMBOLS, reason="FAISS is its build for GPUs")
def test_the_cpu_build_is_named_with_the_cure():
    with pytest.raises(MissingExtraError, match=r"vireo\[gpu\].*pip uninstall faiss-cpu"):
        open_gpu(vectors())


@with_symbols
@without_gpu
def test_a_machine_without_a_gpu_is_named():
    with pytest.raises(SearchIndexError, match="no NVIDIA GPU is visible to FAISS"):
        open_gpu(vectors())


@without_gpu
def test_the_cpu_takes_over_only_when_asked_and_says_why(caplog):
    made = vectors()
    structure = open_gpu(made, fallback=lambda: kinds.open_structure("flat", None, made, {}))
    assert structure.kind.name == "flat"
    assert "no index on GPUs: " in caplog.text
    assert structure.search(made[:3], 1)[1].tolist() == [[0], [1], [2]]


def test_an_unknown_kind_names_those_there_are():
    with pytest.raises(SearchIndexError, match=r"'hnsw' is no kind .* there are flat"):
        open_gpu(vectors(), GpuOptions(kind="hnsw"))


@with_symbols
@pytest.mark.parametrize("kind", ["flat", "ivf", "ivfpq"])
def test_constructors_take_the_arguments_and_fail_at_the_device_only(kind):
    resource = faiss.StandardGpuResources()
    resource.setTempMemory(1 << 20)
    if faiss.get_num_gpus():
        assert gpu._empty(kind, resource, 0, 64, 5000).d == 64
    else:
        with pytest.raises(RuntimeError, match="Invalid GPU device 0"):
            gpu._empty(kind, resource, 0, 64, 5000)


@with_symbols
@without_gpu
def test_a_kind_that_the_build_lacks_or_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(gpu, "gpu_count", lambda: 2)
    if not hasattr(faiss, "GpuIndexCagra"):
        with pytest.raises(MissingExtraError, match="no kind `cagra`"):
            open_gpu(vectors(), GpuOptions(kind="cagra"))
    with pytest.raises(SearchIndexError, match=r"devices are \(0, 7\); FAISS sees 2 GPUs"):
        open_gpu(vectors(), GpuOptions(devices=(0, 7)))


def test_too_little_memory_is_found_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(gpu, "gpu_count", lambda: 1)
    monkeypatch.setattr(gpu, "free_memory", lambda device: 600 << 20)
    many = np.broadcast_to(np.ones(512, np.float32), (10_000_000, 512))
    with pytest.raises(SearchIndexError, match=r"GPU 0: flat of 10000000 .* needs 10\.0 GiB, 0\.6"):
        open_gpu(many)
    assert gpu.memory_needed("ivfpq", 10_000_000, 512) < gpu.memory_needed("flat", 10_000_000, 512)


@pytest.mark.parametrize("dim", [16, 256, 384, 512, 768, 1024, 1280])
def test_product_quantisation_cuts_into_parts_of_one_size(dim):
    parts = gpu._subvectors(dim)
    assert dim % parts == 0
    assert parts <= 96


class _OnGpu:
    """Stands where a GPU's index would, with its limits: no selector, 2048 candidates at most."""

    def __init__(self, vectors):
        self.flat = faiss.IndexFlatIP(vectors.shape[1])
        self.flat.add(vectors)

    def search(self, queries, k, params=None):
        assert params is None
        assert k <= gpu.MOST_CANDIDATES
        return self.flat.search(queries, k)


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("k", [1, 10, 3000, 6000])
def test_filters_are_exact_though_a_gpu_knows_none(share, k):
    made, queries = vectors(5000), vectors(5020)[-20:]
    structure = GpuStructure(
        gpu.GPU_KINDS["flat"], _OnGpu(made), made, {"kind": "flat", "factor": 2}, None
    )
    allowed = np.random.default_rng(1).random(5000) < share
    scores, rows = structure.search(queries, k, allowed=allowed)
    exact = kinds.open_structure("flat", None, made, {}).search(queries, k, allowed=allowed)
    np.testing.assert_array_equal(rows, exact[1])
    np.testing.assert_allclose(scores, exact[0], atol=1e-6)
