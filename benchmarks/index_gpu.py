"""Measure the index on GPUs: 1, 10 and 50 million FP16 vectors, batches of 1 to 1024 queries.

    pip install 'vireo[gpu]' torch     # and no faiss-cpu beside it
    python benchmarks/index_gpu.py

Runs on a machine with an NVIDIA GPU; elsewhere it says what is missing and ends. Two parts:

`search`: flat FP16, IVF and IVFPQ over vectors that PyTorch draws on the GPU in blocks (around 4096
centres with a falling spectrum, in 512 dimensions) and FAISS takes from there, so that 50 million
need no 100 GB of host memory. A size or kind that does not fit is named and left out. Recall is
measured against the flat index of the same size.

`index`: `vireo_client.index.gpu` as users call it, on 200,000 vectors of `spread.py`: each kind
that this build of FAISS has, against the exact answer; with filters; on all GPUs; and its error
where the memory is too small.

Writes `benchmarks/results/index_gpu.json`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import vireo_client.index.gpu as gpu
import vireo_client.index.kinds as kinds
from spread import DIM, Spread, draw
from support import machine, option_parser, print_heading, print_table, write_report
from vireo_client.errors import VireoError
from vireo_client.index.kinds.cells import cells_for

BATCHES = (1, 8, 32, 128, 1024)
BLOCK = 250_000
QUERIES = 1024
CENTRES = 4096


def main() -> int:
    parser = option_parser(__doc__, "index_gpu.json")
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000, 50_000_000])
    parser.add_argument("--kinds", nargs="+", default=["flat", "ivf", "ivfpq"])
    args = parser.parse_args()
    lacking = missing()
    if lacking:
        print("cannot run here:", *lacking, sep="\n  ")
        return 1
    report = {"date": time.strftime("%Y-%m-%d"), "machine": {**machine(), "gpu": names()}}
    report["index"] = through_the_index()
    write_report(report, args.output)
    report["search"] = []
    for rows in args.rows:
        truth = None
        # Flat first: its answers are what the others are measured against.
        for kind in sorted(args.kinds, key=lambda name: name != "flat"):
            found, answers = search(kind, rows, truth)
            truth = answers if kind == "flat" else truth
            report["search"].append(found)
            write_report(report, args.output)
    print_heading(report, *report["machine"]["gpu"])
    head = ("kind", "rows", "recall@10", "build s", *(f"{n} q: ms" for n in BATCHES), "note")
    lines = [
        [
            found["kind"],
            f"{found['rows']:,}",
            str(found.get("recall@10", "")),
            str(found.get("build_s", "")),
            *(str(found.get("ms", {}).get(str(n), "")) for n in BATCHES),
            found.get("note", ""),
        ]
        for found in report["search"]
    ]
    print_table(head, lines)
    return 0


def missing() -> list[str]:
    """Return what this machine lacks, a line each."""
    lacking = []
    try:
        gpu.gpu_count()
    except VireoError as error:
        lacking.append(str(error))
    try:
        import torch

        if not torch.cuda.is_available():
            lacking.append(f"PyTorch {torch.__version__} sees no GPU; install its build for CUDA")
    except ModuleNotFoundError:
        lacking.append("torch is not installed: pip install torch")
    return lacking


def names() -> list[str]:
    """Return the GPUs' names."""
    import torch

    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]


class Drawn:
    """Vectors drawn on the GPU, the same for the same block number."""

    def __init__(self) -> None:
        import torch

        self.torch = torch
        generator = torch.Generator("cuda").manual_seed(0)
        # A falling spectrum: the deviation along direction i is 1 / sqrt(i + 8).
        self.scale = (torch.arange(DIM, device="cuda") + 8.0) ** -0.5
        self.centres = self.scale * torch.randn(CENTRES, DIM, device="cuda", generator=generator)

    def block(self, number: int, rows: int) -> Any:
        """Return unit vectors FP32 `[rows, 512]` on the GPU."""
        torch = self.torch
        generator = torch.Generator("cuda").manual_seed(number + 1)
        picked = torch.randint(CENTRES, (rows,), device="cuda", generator=generator)
        own = torch.randn(rows, DIM, device="cuda", generator=generator)
        return torch.nn.functional.normalize(self.centres[picked] + self.scale * own)


def search(kind: str, rows: int, truth: Any) -> tuple[dict[str, Any], Any]:
    """Fill one GPU's index and time its search; return the results and its answers."""
    import faiss.contrib.torch_utils  # FAISS's methods take tensors of the GPU from here on

    found: dict[str, Any] = {"kind": kind, "rows": rows}
    needed, free = gpu.memory_needed(kind, rows, DIM), gpu.free_memory(0)
    found["memory_needed_gib"] = round(needed / 2**30, 2)
    if needed > free:
        found["note"] = f"needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
        return found, None
    drawn, resource = Drawn(), faiss.StandardGpuResources()
    resource.setTempMemory(gpu.SCRATCH_BYTES)
    started = time.perf_counter()
    index = gpu._empty(kind, resource, 0, DIM, rows)
    if not index.is_trained:
        index.train(drawn.block(10**6, 64 * cells_for(rows)))
    for number, start in enumerate(range(0, rows, BLOCK)):
        index.add(drawn.block(number, min(BLOCK, rows - start)))
    found["build_s"] = round(time.perf_counter() - started, 1)
    found["memory_used_gib"] = round((free - gpu.free_memory(0)) / 2**30, 2)
    queries = drawn.block(10**6 + 1, QUERIES)
    fetch = 200 if kind == "ivfpq" else 10  # the master compares ivfpq's candidates again
    settings: list[int | None] = [None] if kind == "flat" else [4, 8, 16, 32, 64, 128, 256, 512]
    for nprobe in settings:
        params = None if nprobe is None else faiss.SearchParametersIVF(nprobe=nprobe)
        answers = index.search(queries, fetch, params=params)[1].cpu().numpy()
        if truth is None:
            break
        hits = (answers[:, None, :] == truth[:, :10, None]).any(axis=2)
        found["recall@10"], found["nprobe"] = round(float(hits.mean()), 4), nprobe
        if hits.mean() >= 0.99:
            break
    found["ms"] = {}
    for batch in BATCHES:
        times = []
        for turn in range(60):
            drawn.torch.cuda.synchronize()
            started = time.perf_counter()
            index.search(queries[:batch], fetch, params=params)[0].cpu()
            if turn >= 10:
                times.append(time.perf_counter() - started)
        found["ms"][str(batch)] = round(float(np.median(times)) * 1e3, 3)
    return found, answers


def through_the_index() -> list[dict[str, Any]]:
    """Run `open_gpu` as users do, each kind that the build has."""
    results: list[dict[str, Any]] = []
    rows = 200_000
    with tempfile.TemporaryDirectory() as folder:
        vectors = draw(rows, Path(folder) / "vectors.npy")
        queries = Spread.load().queries(rows, 200)
        exact = kinds.open_structure("flat", None, vectors, {})
        allowed = np.random.default_rng(0).random(rows) < 0.1
        for kind in gpu.GPU_KINDS:
            found: dict[str, Any] = {"kind": kind, "rows": rows}
            results.append(found)
            try:
                started = time.perf_counter()
                structure = gpu.open_gpu(vectors, gpu.GpuOptions(kind=kind))
                found["open_s"] = round(time.perf_counter() - started, 1)
                found["settings"] = structure.settings
                for name, mask in (("recall@10", None), ("filtered_recall@10", allowed)):
                    ours = structure.search(queries, 10, allowed=mask)[1]
                    truth = exact.search(queries, 10, allowed=mask)[1]
                    hits = (ours[:, None, :] == truth[:, :, None]).any(axis=2)
                    found[name] = round(float(hits.mean()), 4)
                times = []
                for query in queries:
                    started = time.perf_counter()
                    structure.search(query[None], 10)
                    times.append(time.perf_counter() - started)
                found["p50_ms"] = round(float(np.median(times)) * 1e3, 3)
            except VireoError as error:
                found["error"] = str(error)
            print(found, flush=True)
    too_many = np.broadcast_to(np.ones(DIM, np.float32), (10**9, DIM))
    try:
        gpu.open_gpu(too_many)
        results.append({"kind": "too large", "error": None})
    except VireoError as error:
        results.append({"kind": "too large", "error": str(error)})
    return results


if __name__ == "__main__":
    sys.exit(main())
