"""Measure what Triton's queue limits cost (`vireo export --queue-limits`).

    python benchmarks/queue_limits.py

A text tower of PhoBERT-base's size in INT8, as in `benchmarks/serving.py`, is served as it is and
with limits that no request reaches. One client asks for one text at a time; sixteen keep as many
requests open. Writes `benchmarks/results/queue_limits.json`.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from real_size import (
    CLIENTS,
    TextRequests,
    ask_together,
    make_repository,
    tensor_of,
    texts_by_bucket,
)
from support import machine, option_parser, print_heading, print_table, write_report
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
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

BUCKET = 16
HELD_UP = 0.4
"""Seconds; the scheduler's own wait is half a second, a run takes some hundredths."""


def main() -> None:
    parser = option_parser(__doc__, "queue_limits.json")
    parser.add_argument("--requests", type=int, default=3000, help="requests of the single client")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a turn of many")
    parser.add_argument("--rounds", type=int, default=3, help="turns of many clients")
    parser.add_argument("--run", type=Path, help="keep the towers here, and take them from here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.run or Path(scratch)
        repository = make_repository(folder)
        bundle = Bundle(repository)
        texts = texts_by_bucket(
            TextPath.from_bundle(bundle), read_captions(folder / "scenes").records
        )
        requests = TextRequests(bundle, repository, BUCKET, texts[BUCKET])
        measured = {}
        for name, served in (
            ("without limits", repository),
            ("with limits", limited(repository, Path(scratch) / "limited")),
        ):
            with TritonServer(served, ports=Ports(0, 0, 0)) as server:
                measured[name] = {
                    "one_client": one_client(requests, server.url, options.requests),
                    "many_clients_per_second": [
                        round(asyncio.run(ask_together(requests, server.url, options.seconds)), 1)
                        for _ in range(options.rounds)
                    ],
                }
                version = server.version
    report = {
        "machine": machine(),
        "settings": {"triton": version, "clients": CLIENTS, "bucket": BUCKET},
        "measured": measured,
    }
    write_report(report, options.output)
    show(report)


def limited(repository: Path, target: Path) -> Path:
    """Copy a repository and give its queues the limits of `vireo export --queue-limits`."""
    shutil.copytree(repository, target)
    for path in target.glob(f"*/{CONFIG_FILE}"):
        config = read_config(path)
        if config.HasField("dynamic_batching"):
            batch_dynamically(config, ServingOptions(queue_limits=QueueLimits()))
            write_config(config, path.parent)
    return target


def one_client(requests: TextRequests, url: str, count: int) -> dict[str, Any]:
    """Return percentiles of `count` requests one after the other, and how many were held up."""
    client = grpc.InferenceServerClient(url)
    tensors = [tensor_of(grpc, requests.kind, value) for value in requests.inputs]
    seconds = []
    for number in range(count):
        start = time.perf_counter()
        client.infer("embed_text", [tensors[number % len(tensors)]])
        seconds.append(time.perf_counter() - start)
    client.close()
    p50, p99, most = (round(float(q) * 1000, 2) for q in np.quantile(seconds, [0.5, 0.99, 1]))
    held_up = sum(second > HELD_UP for second in seconds)
    return {"requests": count, "held_up": held_up, "p50": p50, "p99": p99, "max": most}


def show(report: dict[str, Any]) -> None:
    rows = []
    for name, figures in report["measured"].items():
        one = figures["one_client"]
        rows.append(
            [
                name,
                f"{one['p50']} / {one['p99']} / {one['max']}",
                f"{one['held_up']} of {one['requests']}",
                f"{np.median(figures['many_clients_per_second']):.1f}",
            ]
        )
    print_heading(report)
    print_table(("", "one client: p50 / p99 / max, ms", "held up", "16 clients a second"), rows)


if __name__ == "__main__":
    main()
