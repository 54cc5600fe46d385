"""The same vectors searched on one NVIDIA GPU or several, with Meta's `faiss-gpu`.

A GPU structure is filled from the master, the segment's FP32 file, in blocks; nothing of it is
written to disk. Rows are never removed from it: `allowed` leaves tombstones out, and after a
compaction the structure of the new segment is opened, which builds it anew.

FAISS on a GPU knows no selectors and returns 2048 candidates at most. So a search with `allowed`
asks for more candidates than matches; queries that still have too few are compared with every
allowed vector of the master, on the CPU.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import MissingExtraError, SearchIndexError
from .kinds.building import BLOCK_ROWS, sample
from .kinds.cells import cells_for
from .kinds.kind import Kind
from .kinds.library import faiss
from .kinds.master import Floats, Rows
from .kinds.settings import SearchSettings
from .kinds.structure import TOP, Structure
from .kinds.tuning import trial, tune

logger = logging.getLogger(__name__)

MOST_CANDIDATES = 2048
"""FAISS's limit on a GPU, for candidates and for cells."""
SCRATCH_BYTES = 512 << 20
"""GPU memory for FAISS's temporary data, on each GPU."""


@dataclass(frozen=True)
class GpuOptions:
    """What is built, and where."""

    kind: str = "flat"
    """`flat` (FP16, compares with every vector), `ivf` (cells, FP16), `ivfpq` (cells, a byte for
    eight numbers) or `cagra` (a proximity graph; in FAISS builds with cuVS only)."""
    devices: tuple[int, ...] | None = None
    """The GPUs, by CUDA's numbers; None takes all that are visible. The vectors are split."""
    target_recall: float = 0.99
    """The recall@10 that kinds with cells are tuned for."""
    seed: int = 0


def gpu_count() -> int:
    """Count the GPUs that FAISS can use.

    Raises:
        MissingExtraError: the FAISS that is installed is a build for CPUs.
        SearchIndexError: no GPU is visible.
    """
    if not hasattr(faiss, "StandardGpuResources"):
        raise MissingExtraError(
            "faiss with GPU support",
            "gpu",
            " after `pip uninstall faiss-cpu`: both builds install the same package",
        )
    count = int(faiss.get_num_gpus())
    if count == 0:
        raise SearchIndexError(
            "no NVIDIA GPU is visible to FAISS; check nvidia-smi and CUDA_VISIBLE_DEVICES, "
            "or search on the CPU"
        )
    return count


def open_gpu(
    vectors: Floats,
    options: GpuOptions = GpuOptions(),
    *,
    queries: Floats | None = None,
    fallback: Callable[[], Structure] | None = None,
) -> Structure:
    """Build a structure on the GPUs from a segment's vectors.

    Args:
        vectors: unit vectors FP32 `[N, D]`, mostly the master's memory map.
        options: the kind, the GPUs and the recall.
        queries: embeddings FP32 `[M, D]` of what users may ask, for tuning.
        fallback: opens the structure to use where the GPUs cannot be, with a warning; None raises
            instead.

    Raises:
        MissingExtraError: FAISS is a build for CPUs, or lacks the kind.
        SearchIndexError: no GPU, an unknown kind or GPU, or too little GPU memory; the message says
            how much is needed.
    """
    try:
        return _open(vectors, options, queries)
    except (MissingExtraError, SearchIndexError) as error:
        if fallback is None:
            raise
        logger.warning("no index on GPUs: %s", error)
        return fallback()


def memory_needed(kind: str, rows: int, dim: int) -> int:
    """Return the GPU memory in bytes that `rows` vectors of size `dim` take, on one GPU.

    Ids and the slack of growing lists (a quarter) are in it, and FAISS's temporary memory.
    """
    cells = 4 * dim * cells_for(rows)
    vectors = {
        "flat": rows * 2 * dim,
        "ivf": rows * (2 * dim + 8) * 5 // 4 + cells,
        "ivfpq": rows * (_subvectors(dim) + 8) * 5 // 4 + cells,
        # Links of the graph being built, twice those of the finished one, and the vectors in FP32.
        "cagra": rows * (4 * dim + 4 * (2 * _LINKS + _LINKS)),
    }
    return vectors[kind] + SCRATCH_BYTES


class GpuStructure(Structure):
    """A structure on GPUs; threads may share it, and take turns."""

    def __init__(
        self, kind: Kind, index: Any, vectors: Floats, settings: Mapping[str, Any], owned: Any
    ) -> None:
        super().__init__(kind, index, vectors, settings)
        # The GPUs' temporary memory and the parts must outlive the index that uses them.
        self._owned = owned
        self._turn = threading.Lock()

    def candidates(
        self, queries: Floats, fetch: int, value: int, selector: Any | None = None
    ) -> Rows:
        """Return the structure's own best `fetch` rows, 2048 at most; `selector` must be None."""
        assert self.index is not None
        assert selector is None
        fetch = min(fetch, MOST_CANDIDATES)
        params = self.kind.parameters(self.index, value, None)
        with self._turn:  # one FAISS GPU index serves one thread at a time
            rows: Rows = self.index.search(queries, fetch, params=params)[1]
        return rows

    def _found(
        self,
        queries: Floats,
        k: int,
        allowed: npt.NDArray[np.bool_] | None,
        settings: SearchSettings,
    ) -> tuple[Floats, Rows]:
        if settings.exact or k > MOST_CANDIDATES:
            return self._on_cpu(queries, k, allowed)
        passing = self.master.rows if allowed is None else int(np.count_nonzero(allowed))
        share = max(passing, 1) / self.master.rows
        if k / share > MOST_CANDIDATES:
            return self._on_cpu(queries, k, allowed)
        fetch = int(np.ceil(max(k, TOP) * int(self.settings["factor"]) / share))
        rows = self.candidates(queries, min(fetch, self.master.rows), self._value(settings, share))
        if allowed is not None:
            rows = np.where((rows >= 0) & allowed[np.maximum(rows, 0)], rows, -1)
        scores, best = self.master.best(queries, k, np.ascontiguousarray(rows))
        short = (rows >= 0).sum(axis=1) < min(k, passing)
        if allowed is not None and short.any():
            again = self._on_cpu(np.ascontiguousarray(queries[short]), k, allowed)
            wide = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1)
            wide[0][:, : scores.shape[1]], wide[1][:, : scores.shape[1]] = scores, best
            wide[0][short], wide[1][short] = again
            return wide
        return scores, best

    def _on_cpu(
        self, queries: Floats, k: int, allowed: npt.NDArray[np.bool_] | None
    ) -> tuple[Floats, Rows]:
        return super()._found(queries, k, allowed, SearchSettings(exact=True))


_LINKS = 64
"""Links of a vector in CAGRA's graph."""


def _nprobe(index: Any, value: int, selector: Any) -> Any:
    return faiss.SearchParametersIVF(nprobe=value)


def _cagra_width(index: Any, value: int, selector: Any) -> Any:
    return faiss.SearchParametersCagra(itopk_size=value)


GPU_KINDS = {
    "flat": Kind("flat", "every vector, FP16, on GPUs", factors=(2,)),
    "ivf": Kind(
        "ivf",
        "k-means cells, FP16, on GPUs",
        least_rows=1000,
        knob="nprobe",
        parameters=_nprobe,
        factors=(1, 2),
        row_cost=0.1,
    ),
    "ivfpq": Kind(
        "ivfpq",
        "k-means cells, a byte for eight numbers, on GPUs",
        least_rows=10_000,
        knob="nprobe",
        parameters=_nprobe,
        factors=(4, 8, 16, 32, 64, 128),
        row_cost=0.02,
    ),
    "cagra": Kind(
        "cagra",
        "a proximity graph on GPUs (cuVS)",
        least_rows=1000,
        knob="ef",
        knob_least=64,
        knob_limit=lambda index: 1024,
        parameters=_cagra_width,
        factors=(1, 2),
        row_cost=1.0,
    ),
}
"""The kinds on GPUs by name."""


def _open(vectors: Floats, options: GpuOptions, queries: Floats | None) -> Structure:
    if options.kind not in GPU_KINDS:
        raise SearchIndexError(
            f"{options.kind!r} is no kind of index on GPUs; there are {', '.join(GPU_KINDS)}"
        )
    kind, rows = GPU_KINDS[options.kind], len(vectors)
    devices = _devices(options, gpu_count())
    if options.kind == "cagra" and not hasattr(faiss, "GpuIndexCagra"):
        raise MissingExtraError(
            "faiss built with cuVS", "gpu", "; this build of faiss-gpu has no kind `cagra`"
        )
    least = kind.least_rows * len(devices)
    if rows < least:
        raise SearchIndexError(f"{kind.name} needs {least} vectors on {len(devices)} GPUs: {rows}")
    for device in devices:
        _check_memory(options.kind, -(-rows // len(devices)), vectors.shape[1], device)
    try:
        index, owned = _filled(options, vectors, devices)
    except RuntimeError as error:
        reason = str(error).rpartition("Error: ")[2]
        raise SearchIndexError(f"the GPUs {devices} cannot hold the index ({reason})") from None
    if kind.knob == "nprobe":
        cells = min(cells_for(-(-rows // len(devices))), MOST_CANDIDATES)
        kind = replace(kind, knob_limit=lambda index: cells)
    structure = GpuStructure(kind, index, vectors, {"kind": kind.name}, owned)
    if kind.knob is None:
        structure.settings["factor"] = kind.factors[0]
    else:
        tests = trial(structure.master, options.seed, queries)
        structure.settings.update(tune(structure, tests, options.target_recall))
    return structure


def _devices(options: GpuOptions, count: int) -> tuple[int, ...]:
    devices = tuple(range(count)) if options.devices is None else options.devices
    wrong = [device for device in devices if not 0 <= device < count]
    if wrong or not devices:
        raise SearchIndexError(f"devices are {devices}; FAISS sees {count} GPUs, numbered from 0")
    return devices


def _check_memory(kind: str, rows: int, dim: int, device: int) -> None:
    needed, free = memory_needed(kind, rows, dim), free_memory(device)
    if needed > free:
        raise SearchIndexError(
            f"GPU {device}: {kind} of {rows} vectors of size {dim} needs {needed / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free; use more GPUs, or a smaller kind (ivfpq)"
        )


def free_memory(device: int) -> int:
    """Return the free memory in bytes of the GPU with CUDA's number `device`.

    Raises:
        SearchIndexError: the CUDA driver does not answer.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise SearchIndexError(f"the CUDA driver cannot be loaded ({error})") from None
    number, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()

    def call(name: str, *args: Any) -> None:
        status = getattr(driver, name)(*args)
        if status:
            raise SearchIndexError(f"GPU {device}: {name} of the CUDA driver fails ({status})")

    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(number), device)
    # The context that FAISS uses, too.
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
    try:
        call("cuCtxPushCurrent_v2", context)
        call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        call("cuCtxPopCurrent_v2", ctypes.byref(context))
    finally:
        call("cuDevicePrimaryCtxRelease_v2", number)
    return free.value


def _filled(options: GpuOptions, vectors: Floats, devices: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the index over all devices, and what must live as long."""
    rows, dim = vectors.shape
    each = -(-rows // len(devices))
    parts, resources = [], []
    for number, device in enumerate(devices):
        part = vectors[number * each : (number + 1) * each]
        resource = faiss.StandardGpuResources()
        resource.setTempMemory(SCRATCH_BYTES)
        index = _empty(options.kind, resource, device, dim, len(part))
        if options.kind == "cagra":  # builds its graph in one step
            index.train(np.ascontiguousarray(part, dtype=np.float32))
        else:
            if not index.is_trained:
                index.train(sample(part, 64 * cells_for(len(part)), options.seed))
            for start in range(0, len(part), BLOCK_ROWS):
                index.add(np.ascontiguousarray(part[start : start + BLOCK_ROWS], dtype=np.float32))
        parts.append(index)
        resources.append(resource)
    if len(parts) == 1:
        return parts[0], resources
    # One thread a GPU; rows of a part are counted on from those of the parts before it.
    shards = faiss.IndexShards(dim, True, True)
    for index in parts:
        shards.add_shard(index)
    return shards, (resources, parts)


def _empty(kind: str, resource: Any, device: int, dim: int, rows: int) -> Any:
    """Make an empty index on one GPU; each kind has a configuration type of its own."""
    metric = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = device, True
        return faiss.GpuIndexFlatIP(resource, dim, config)
    if kind == "ivf":
        config = faiss.GpuIndexIVFScalarQuantizerConfig()
        config.device = device
        half, residual = faiss.ScalarQuantizer.QT_fp16, False
        return faiss.GpuIndexIVFScalarQuantizer(
            resource, dim, cells_for(rows), half, metric, residual, config
        )
    if kind == "ivfpq":
        config = faiss.GpuIndexIVFPQConfig()
        config.device, config.useFloat16LookupTables = device, True
        return faiss.GpuIndexIVFPQ(
            resource, dim, cells_for(rows), _subvectors(dim), 8, metric, config
        )
    config = faiss.GpuIndexCagraConfig()
    config.device, config.graph_degree = device, _LINKS
    config.intermediate_graph_degree = 2 * _LINKS
    return faiss.GpuIndexCagra(resource, dim, metric, config)


def _subvectors(dim: int) -> int:
    """Return into how many parts product quantisation cuts a vector: a size that GPUs support."""
    supported = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
    return next(parts for parts in supported if parts <= max(dim // 8, 1) and dim % parts == 0)
