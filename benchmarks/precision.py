"""Measures a text tower of PhoBERT-base's size in FP32, FP16 and INT8, side by side in one run.

    python benchmarks/precision.py

Random weights: what a product costs does not depend on them. Prints the sizes of the files, and
for each text bucket and batch the median latency of FP32 and INT8, which run in turns; writes them
to `results/precision.json`. FP16 is for accelerators; only its size is told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
for root in ("client", "training", "export", "model_repository"):
    sys.path.insert(0, str(HERE.parent / root))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from vireo_client.repository import TEXT_MODEL  # noqa: E402
from vireo_client.towers.engine import open_session  # noqa: E402
from vireo_export.onnx.export import export_tower  # noqa: E402
from vireo_export.onnx.external_data import engine_bytes  # noqa: E402
from vireo_export.onnx.optimise import optimise  # noqa: E402
from vireo_export.precision.calibration import Calibration, largest_values  # noqa: E402
from vireo_export.precision.fp16 import to_fp16  # noqa: E402
from vireo_export.precision.int8 import candidates  # noqa: E402
from vireo_training.config import load_config  # noqa: E402
from vireo_training.models.text_towers import TextTower  # noqa: E402

BUCKETS = (16, 32, 64)
BATCHES = (1, 16)
PRESET = "phobert-dinov2"


def make_engines(folder: Path) -> dict[str, Path]:
    """Builds the tower and writes its engines."""
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
    made = candidates(TEXT_MODEL, fp32, folder / "int8", Calibration({}))
    (int8,) = next(made)
    made.close()
    return {"fp32": fp32, "fp16": fp16, "int8": int8.path}


def ids_of(vocab_size: int, bucket: int, batch: int) -> Any:
    """Random ids, a quarter of them padding."""
    ids = np.random.default_rng(bucket).integers(4, vocab_size, (batch, bucket), dtype=np.int32)
    ids[:, bucket - bucket // 4 :] = 1
    return ids


def latencies(engines: dict[str, Path], threads: int, rounds: int) -> list[dict[str, Any]]:
    """Median milliseconds by bucket and batch, FP32 and INT8 in turns."""
    sessions = {name: open_session(engines[name], threads) for name in ("fp32", "int8")}
    found = []
    for bucket in BUCKETS:
        for batch in BATCHES:
            inputs = {"input_ids": ids_of(64_000, bucket, batch)}
            answers = {name: s.run(None, inputs)[0] for name, s in sessions.items()}
            taken: dict[str, list[float]] = {name: [] for name in sessions}
            for _ in range(rounds if batch == 1 else max(3, rounds // 4)):
                for name, running in sessions.items():
                    start = time.perf_counter()
                    running.run(None, inputs)
                    taken[name].append(1e3 * (time.perf_counter() - start))
            fp32, int8 = (median(taken[name]) for name in ("fp32", "int8"))
            found.append(
                {
                    "bucket": bucket,
                    "batch": batch,
                    "fp32_ms": round(fp32, 2),
                    "int8_ms": round(int8, 2),
                    "times_as_fast": round(fp32 / int8, 2),
                    "min_cosine": float((answers["fp32"] * answers["int8"]).sum(1).min()),
                }
            )
    return found


def cpu() -> dict[str, Any]:
    """The processor's name and what it has for INT8."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    wanted = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"}
    return {
        "name": named.get("model name", platform.processor() or platform.machine()),
        "int8": sorted(wanted & set(named.get("flags", "").split())),
        "cores": len(os.sched_getaffinity(0)),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="of one inference")
    parser.add_argument("--rounds", type=int, default=40, help="at batch 1")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "precision.json")
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
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    show(report)


def show(report: dict[str, Any]) -> None:
    """Prints the figures as tables."""
    from rich.console import Console
    from rich.table import Table

    machine = report["cpu"]
    console = Console()
    console.print(
        f"{machine['name']} ({', '.join(machine['int8'])}), {report['threads']} thread(s)\n"
        + ", ".join(
            f"{name} {size} MB ({report['of_fp32'][name]} x FP32)"
            for name, size in report["megabytes"].items()
        )
    )
    table = Table("bucket", "batch", "FP32 ms", "INT8 ms", "times as fast", "min cosine")
    for row in report["latency"]:
        table.add_row(*(f"{value:.6g}" for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    main()
