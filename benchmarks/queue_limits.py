"""Measures what Triton's queue limits cost (`vireo export --queue-limits`).

    python benchmarks/queue_limits.py

The repository of `benchmarks/serving.py` (a text tower of PhoBERT-base's size in INT8) is served as
it is and with limits that no request reaches. One client asks for one text at a time; sixteen keep
as many requests open. Writes `benchmarks/results/queue_limits.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from first_light import machine
from rich.console import Console
from rich.table import Table
from serving import CLIENTS, Texts, ask_together, make_repository, same_length, tensor_of
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.repository import CONFIG_FILE
from vireo_client.text.pipeline import TextPath
from vireo_serving.configs.parts import batch_dynamically
from vireo_serving.configs.triton_config import (
    QueueLimits,
    ServingOptions,
    read_config,
    write_config,
)
from vireo_serving.server.server import Ports, TritonServer

RESULTS = Path(__file__).parent / "results" / "queue_limits.json"
BUCKET = 16
HELD_UP = 0.4
"""Seconds; the scheduler's own wait is half a second, a run takes some hundredths."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=3000, help="of the single client")
    parser.add_argument("--seconds", type=float, default=8.0, help="of many clients in a turn")
    parser.add_argument("--rounds", type=int, default=3, help="turns of many clients")
    parser.add_argument("--run", type=Path, help="keep the towers here, and take them from here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.run or Path(scratch)
        repository = make_repository(folder)
        bundle = Bundle(repository)
        texts = same_length(TextPath.from_bundle(bundle), read_captions(folder / "scenes").records)
        side = Texts(bundle, repository, BUCKET, texts[BUCKET])
        measured = {}
        for name, served in (
            ("without limits", repository),
            ("with limits", limited(repository, Path(scratch) / "limited")),
        ):
            with TritonServer(served, ports=Ports(0, 0, 0)) as server:
                measured[name] = {
                    "one_client": one_client(side, server.url, given.requests),
                    "many_clients_per_second": [
                        round(asyncio.run(ask_together(side, server.url, given.seconds)), 1)
                        for _ in range(given.rounds)
                    ],
                }
                version = server.version
    report = {
        "machine": machine(),
        "settings": {"triton": version, "clients": CLIENTS, "bucket": BUCKET},
        "measured": measured,
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show(report)


def limited(repository: Path, target: Path) -> Path:
    """The same repository, its models' queues with the limits of `vireo export --queue-limits`."""
    shutil.copytree(repository, target)
    for path in target.glob(f"*/{CONFIG_FILE}"):
        config = read_config(path)
        if config.HasField("dynamic_batching"):
            batch_dynamically(config, ServingOptions(queue_limits=QueueLimits()))
            write_config(config, path.parent)
    return target


def one_client(side: Texts, url: str, requests: int) -> dict[str, Any]:
    """One request after the other: percentiles, and how many were held up."""
    client = grpc.InferenceServerClient(url)
    tensors = [tensor_of(grpc, side.kind, value) for value in side.inputs]
    seconds = []
    for number in range(requests):
        started = time.perf_counter()
        client.infer("embed_text", [tensors[number % len(tensors)]])
        seconds.append(time.perf_counter() - started)
    client.close()
    p50, p99, most = (round(float(q) * 1000, 2) for q in np.quantile(seconds, [0.5, 0.99, 1]))
    held_up = sum(second > HELD_UP for second in seconds)
    return {"requests": requests, "held_up": held_up, "p50": p50, "p99": p99, "max": most}


def show(report: dict[str, Any]) -> None:
    console = Console()
    computer = report["machine"]
    console.print(f"{computer['cpu']}, {computer['cores']} cores")
    table = Table("", "one client: p50 / p99 / max, ms", "held up", "16 clients a second")
    for name, found in report["measured"].items():
        one = found["one_client"]
        table.add_row(
            name,
            f"{one['p50']} / {one['p99']} / {one['max']}",
            f"{one['held_up']} of {one['requests']}",
            f"{np.median(found['many_clients_per_second']):.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
