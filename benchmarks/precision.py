"""Measure a text tower of PhoBERT-base's size in FP32, FP16 and INT8, side by side in one run.

    python benchmarks/precision.py

Random weights: the time of a product does not depend on them. Prints the sizes of the files, and
for each text bucket and batch the median latency of FP32 and INT8, which run in turns. FP16 is for
accelerators: only its size is printed. Writes `benchmarks/results/precision.json`.
"""

from __future__ import annotations

import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from rich.console import Console
from support import cpu_name, option_parser, print_table, write_report
from vireo_client.repository import TEXT_MODEL
from vireo_client.towers.engine import open_session
from vireo_export.onnx.export import export_tower
from vireo_export.onnx.external_data import engine_bytes
from vireo_export.onnx.optimise import optimise
from vireo_export.precision.calibration import Calibration, largest_values
from vireo_export.precision.candidates import candidates
from vireo_export.precision.fp16 import to_fp16
from vireo_training.models.text_towers import TextTower
from vireo_training.presets import load_config

BUCKETS = (16, 32, 64)
BATCHES = (1, 16)
PRESET = "phobert-dinov2"


def make_engines(folder: Path) -> dict[str, Path]:
    """Build the tower and write its engines."""
    torch.manual_seed(0)
    config = load_config(PRESET, ["text.weights=null", "text.tokenizer=bpe"])
    architecture = config.text.architecture or {}
    vocab_size, pad_id = int(architecture["vocab_size"]), int(architecture["pad_token_id"])
    tower = TextTower(config.text, vocab_size, pad_id, config.embedding_dim, load=False).eval()
    ids = torch.full((2, BUCKETS[0]), 5, dtype=torch.int32)
    length = torch.export.Dim("length", min=2, max=config.text.buckets[-1])
    exported = export_tower(
        tower, ids, "input_ids", {0: torch.export.Dim("batch", min=1), 1: length},
        folder / "exported" / "model.onnx",
    )  # fmt: skip
    fp32 = folder / "fp32" / "model.onnx"
    optimise(exported, fp32)
    inputs = [{"input_ids": ids_of(vocab_size, bucket, 4)} for bucket in BUCKETS]
    fp16 = to_fp16(fp32, folder / "fp16" / "model.onnx", largest_values(fp32, inputs))
    quantised = candidates(TEXT_MODEL, fp32, folder / "int8", Calibration({}))
    (int8,) = next(quantised)
    quantised.close()
    return {"fp32": fp32, "fp16": fp16, "int8": int8.path}


def ids_of(vocab_size: int, bucket: int, batch: int) -> Any:
    """Return random ids, INT32 `[batch, bucket]`, a quarter of them padding."""
    ids = np.random.default_rng(bucket).integers(4, vocab_size, (batch, bucket), dtype=np.int32)
    ids[:, bucket - bucket // 4 :] = 1
    return ids


def latencies(engines: dict[str, Path], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Return median milliseconds by bucket and batch, of FP32 and INT8 in turns."""
    sessions = {name: open_session(engines[name], threads) for name in ("fp32", "int8")}
    rows = []
    for bucket in BUCKETS:
        for batch in BATCHES:
            inputs = {"input_ids": ids_of(64_000, bucket, batch)}
            answers = {name: s.run(None, inputs)[0] for name, s in sessions.items()}
            times: dict[str, list[float]] = {name: [] for name in sessions}
            for _ in range(rounds if batch == 1 else max(3, rounds // 4)):
                for name, session in sessions.items():
                    start = time.perf_counter()
                    session.run(None, inputs)
                    times[name].append(1e3 * (time.perf_counter() - start))
            fp32, int8 = (median(times[name]) for name in ("fp32", "int8"))
            rows.append(
                {
                    "bucket": bucket,
                    "batch": batch,
                    "fp32_ms": round(fp32, 2),
                    "int8_ms": round(int8, 2),
                    "times_as_fast": round(fp32 / int8, 2),
                    "min_cosine": float((answers["fp32"] * answers["int8"]).sum(1).min()),
                }
            )
    return rows


def cpu() -> dict[str, Any]:
    """Return the processor's name, its instructions for INT8 and the cores of this process."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    useful = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"}
    return {
        "name": cpu_name(),
        "int8": sorted(useful & set(flags.split())),
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    parser = option_parser(__doc__, "precision.json")
    parser.add_argument("--threads", type=int, default=1, help="threads of one run")
    parser.add_argument("--rounds", type=int, default=40, help="runs at batch 1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engines = make_engines(Path(folder))
        sizes = {name: engine_bytes(path) for name, path in engines.items()}
        report = {
            "cpu": cpu(),
            "threads": options.threads,
            "versions": {name: version(name) for name in ("onnxruntime", "torch", "onnxscript")},
            "tower": f"text tower of preset {PRESET}: 12 layers, width 768, random weights",
            "megabytes": {name: round(size / 1e6, 1) for name, size in sizes.items()},
            "of_fp32": {name: round(size / sizes["fp32"], 4) for name, size in sizes.items()},
            "latency": latencies(engines, options.threads, options.rounds),
        }
    write_report(report, options.output)
    show(report)


def show(report: dict[str, Any]) -> None:
    processor = report["cpu"]
    Console().print(
        f"{processor['name']} ({', '.join(processor['int8'])}), {report['threads']} thread(s)\n"
        + ", ".join(
            f"{name} {size} MB ({report['of_fp32'][name]} x FP32)"
            for name, size in report["megabytes"].items()
        )
    )
    head = ("bucket", "batch", "FP32 ms", "INT8 ms", "times as fast", "min cosine")
    rows = [[f"{value:.6g}" for value in row.values()] for row in report["latency"]]
    print_table(head, rows)


if __name__ == "__main__":
    main()
