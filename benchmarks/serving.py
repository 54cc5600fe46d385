"""Measure what a server adds: `embed_text` and `embed_image` beside the same engines in process.

    python benchmarks/serving.py --images FOLDER

The towers have the sizes of `vireo-base` (PhoBERT-base, ViT-S/14) and random weights: only time is
measured. Everything runs on one machine, in turns. One client asks for one text, or one JPEG, at a
time. In process, ready ids are run (texts), or files are decoded, preprocessed and run (images): by
a plain `session.run` with ONNX Runtime's own settings, and by the engine that the server uses.
Sixteen clients keep as many requests open; in process, batches of several sizes are run, and the
best size of each counts. The clients run on the server's own cores.
Writes `benchmarks/results/serving.json`.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc as grpc
from PIL import Image
from real_size import (
    BUCKETS,
    CLIENTS,
    MODELS,
    ImageRequests,
    Requests,
    TextRequests,
    ask_together,
    make_repository,
    tensor_of,
    texts_by_bucket,
)
from support import machine, option_parser, percentiles, print_heading, print_table, write_report
from vireo_client.bundle import Bundle
from vireo_client.captions import CaptionedImage, read_captions
from vireo_client.folders import find_images
from vireo_client.text.pipeline import TextPath
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

BATCHES = (1, 2, 4, 8, 16, 32)
NOT_COUNTED = 3
"""Calls at the start of a turn that find caches cold and threads asleep."""


def main() -> None:
    parser = option_parser(__doc__, "serving.json")
    parser.add_argument("--images", "--pictures", type=Path, metavar="FOLDER",
                        help="a folder of JPEGs; by default generated ones")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--calls", type=int, default=20, help="calls of one client in a turn")
    parser.add_argument("--seconds", type=float, default=6.0, help="of many clients in a turn")
    parser.add_argument("--run", type=Path, help="keep the towers here, and take them from here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.run or Path(scratch)
        repository = make_repository(folder)
        bundle = Bundle(repository)
        records = read_captions(folder / "scenes").records
        texts = texts_by_bucket(TextPath.from_bundle(bundle), records)
        files = jpegs(options.images, records)
        with TritonServer(repository, ports=Ports(0, 0, 0)) as server:
            all_requests: list[Requests] = [
                *(TextRequests(bundle, repository, bucket, texts[bucket]) for bucket in BUCKETS),
                ImageRequests(bundle, repository, files),
            ]
            report = {
                "machine": machine(),
                "settings": {"triton": server.version, "onnxruntime": onnxruntime.__version__,
                             "clients": CLIENTS, "rounds": options.rounds, "jpegs": describe(files),
                             "towers": "PhoBERT-base size and ViT-S/14 size, INT8, random weights"},
                "measured": {
                    requests.name: {
                        "one_client": one_client(
                            requests, server.url, options.rounds, options.calls
                        ),
                        "many_clients": many_clients(
                            requests, server.url, options.rounds, options.seconds
                        ),
                    }
                    for requests in all_requests
                },
            }  # fmt: skip
    write_report(report, options.output)
    show(report)


def jpegs(folder: Path | None, records: Sequence[CaptionedImage]) -> list[bytes]:
    """Return the bytes of JPEG files: of a folder, or of scenes at 640 x 480."""
    if folder is not None:
        paths = [p for p in find_images(folder) if p.suffix.lower() in (".jpg", ".jpeg")]
        return [path.read_bytes() for path in paths[:200]]
    files = []
    for record in records:
        buffer = io.BytesIO()
        with Image.open(record.path) as image:
            image.convert("RGB").resize((640, 480)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def describe(files: Sequence[bytes]) -> dict[str, Any]:
    """Return the number of files, their median size on disk and in pixels."""
    sizes = [Image.open(io.BytesIO(data)).size for data in files]
    return {
        "count": len(files),
        "median_kilobytes": round(float(np.median([len(data) for data in files])) / 1000),
        "median_size": np.median(sizes, axis=0).astype(int).tolist(),
    }


def one_client(requests: Requests, url: str, rounds: int, calls: int) -> dict[str, Any]:
    """Return the latencies of one request after the other, with the runners in turns."""
    client = grpc.InferenceServerClient(url)
    # Made beforehand, as the ids of the runs in process are.
    tensors = [tensor_of(grpc, requests.kind, value) for value in requests.inputs]
    outputs = [grpc.InferRequestedOutput("embedding")]

    def ask(number: int) -> np.ndarray:
        tensor = tensors[number % len(tensors)]
        answer = client.infer(MODELS[requests.kind], [tensor], outputs=outputs)
        return answer.as_numpy("embedding")

    calls_of: dict[str, Callable[[int], np.ndarray]] = {"triton": ask} | {
        runner: lambda number, run=run: run(requests.values(number, 1))
        for runner, run in requests.runs.items()
    }
    for call in calls_of.values():  # INT8 rounds differently where operators are fused
        assert np.allclose(ask(0), call(0), atol=1e-2), "all must do the same"
    seconds: dict[str, list[float]] = {runner: [] for runner in calls_of}
    for turn in range(rounds):
        for runner, call in calls_of.items():
            for number in range(calls + NOT_COUNTED):
                start = time.perf_counter()
                call(turn * calls + number)
                if number >= NOT_COUNTED:
                    seconds[runner].append(time.perf_counter() - start)
    client.close()
    figures: dict[str, Any] = {runner: percentiles(values) for runner, values in seconds.items()}
    for runner in requests.runs:
        figures[f"p50_of_{runner}"] = round(figures["triton"]["p50"] / figures[runner]["p50"], 3)
    return figures


def many_clients(requests: Requests, url: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Return the rates of sixteen clients, and of each batch in process, measured in turns."""
    rates: dict[str, dict[Any, list[float]]] = {"triton": {CLIENTS: []}}
    rates |= {runner: {batch: [] for batch in BATCHES} for runner in requests.runs}
    for _ in range(rounds):
        rates["triton"][CLIENTS].append(asyncio.run(ask_together(requests, url, seconds)))
        for runner, run in requests.runs.items():
            for batch in BATCHES:
                run(requests.values(0, batch))
                start, done = time.perf_counter(), 0
                while time.perf_counter() - start < seconds / len(BATCHES):
                    run(requests.values(done, batch))
                    done += batch
                rates[runner][batch].append(done / (time.perf_counter() - start))
    medians = {
        runner: {size: round(float(np.median(values)), 1) for size, values in of.items()}
        for runner, of in rates.items()
    }
    figures: dict[str, Any] = {"per_second": {"triton": medians["triton"][CLIENTS]}}
    for runner in requests.runs:
        best = max(medians[runner], key=medians[runner].__getitem__)
        figures["per_second"][runner] = {
            f"batch {size}": rate for size, rate in medians[runner].items()
        }
        figures[f"best_of_{runner}"] = f"batch {best}"
        figures[f"of_best_{runner}"] = round(medians["triton"][CLIENTS] / medians[runner][best], 3)
    return figures


def show(report: dict[str, Any]) -> None:
    rows = []
    for name, measured in report["measured"].items():
        one, many = measured["one_client"], measured["many_clients"]
        for runner in ("triton", "session", "engine"):
            latency = f"{one[runner]['p50']:.2f} / {one[runner]['p99']:.2f}"
            if runner == "triton":
                rows.append([name, runner, latency, "", str(many["per_second"][runner]), ""])
                continue
            best = many[f"best_of_{runner}"]
            rows.append([
                "", runner, latency, f"{one[f'p50_of_{runner}']:.2f}",
                f"{many['per_second'][runner][best]} ({best})", f"{many[f'of_best_{runner}']:.2f}",
            ])  # fmt: skip
    print_heading(report)
    head = ("", "", "one client, p50 / p99, ms", "Triton's p50, of this",
            "many clients, or batches, a second", "Triton's, of this")  # fmt: skip
    print_table(head, rows)


if __name__ == "__main__":
    main()
