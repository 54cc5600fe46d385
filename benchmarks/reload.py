"""A new publication every two seconds for a minute, while eight clients ask without a pause.

Run `make demo` first, then `python benchmarks/reload.py`. Clients call the ensembles and the
towers; each answer must be the vector of the old or of the new publication, whose towers answer
the opposite. Latencies are quoted beside those of the same clients in a time without reloads.
Writes `benchmarks/results/reload.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.embedder import Embedder
from vireo_client.images import load_pixels
from vireo_client.towers.onnx import OnnxTowers
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

# What publishes without an export is the tests' own.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from support.publications import Requests, republish

RESULTS = Path(__file__).parent / "results" / "reload.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="the demo's folder")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=2, help="seconds from one to the next")
    parser.add_argument("--pause-ms", type=float, default=0, help="of a client after an answer")
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 1)  # what else the machine has to do
    exported = Bundle(arguments.run / "model_repository")
    record = read_captions(arguments.run / "scenes" / "test").records[0]
    text, picture = record.captions[0], record.path.read_bytes()
    with Embedder(exported, OnnxTowers(exported)) as embedder:
        ((_, ids),) = embedder.text_path.encode([text])
        expected = {"text": embedder.embed_texts([text])[0],
                    "image": embedder.embed_images([picture])[0]}  # fmt: skip
    pixels = load_pixels(picture, exported.config.image)[None]
    clients = Clients(Requests(text, picture, ids, pixels), expected, arguments)

    with tempfile.TemporaryDirectory(dir=arguments.run) as folder:
        repository = Path(folder) / "model_repository"
        republish(exported.folder, repository, 1, "bundle-0001", negated=False)
        with TritonServer(repository, ports=Ports(0, 0, 0)) as server:
            with clients.asking(server.url):
                time.sleep(3)  # warm
            with clients.asking(server.url) as still:
                time.sleep(arguments.seconds / 2)
            switches = []
            late = 0.0
            with clients.asking(server.url) as reloading:
                begun = time.monotonic()
                for number in range(round(arguments.seconds / arguments.every)):
                    due = begun + number * arguments.every
                    time.sleep(max(0.0, due - time.monotonic()))
                    late = max(late, time.monotonic() - due)
                    republish(exported.folder, repository, number + 2, f"bundle-{number + 2:04}",
                              negated=number % 2 == 0)  # fmt: skip
                    started = time.monotonic()
                    server.reload()
                    switches.append(time.monotonic() - started)
                took = time.monotonic() - begun
            version = server.version
    report = {
        "machine": machine() | {"load_before": load},
        "settings": {"clients": arguments.clients, "seconds_between": arguments.every,
                     "pause_ms": arguments.pause_ms, "triton": version,
                     "embedding_dim": exported.config.embedding_dim},
        "reloads": len(switches),
        "seconds": round(took, 1),
        "most_seconds_late": round(late, 2),
        "switch_seconds": {"p50": round(float(np.median(switches)), 2),
                           "max": round(max(switches), 2)},
        "with_reloads": reloading.summary(took),
        "without_reloads": still.summary(arguments.seconds / 2),
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


class Answers:
    """What all clients of one time got."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.seen: Counter[str] = Counter()

    def summary(self, seconds: float) -> dict[str, object]:
        p50, p99 = np.percentile(self.milliseconds, [50, 99])
        return {
            "requests": len(self.milliseconds),
            "requests_per_second": round(len(self.milliseconds) / seconds, 1),
            "failed": sum(n for what, n in self.seen.items() if what not in ("old", "new")),
            "of_the_even_publications": self.seen["new"],
            "of_the_odd_publications": self.seen["old"],
            "latency_ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2),
                           "max": round(max(self.milliseconds), 2)},
            "failures": {w: n for w, n in self.seen.items() if w not in ("old", "new")},
        }  # fmt: skip


class Clients:
    """Threads that ask for the same vectors again and again."""

    def __init__(
        self,
        questions: Requests,
        expected: dict[str, np.ndarray],
        arguments: argparse.Namespace,
    ) -> None:
        self._questions = questions
        self._expected = expected
        self._count: int = arguments.clients
        self._pause = arguments.pause_ms / 1e3

    @contextmanager
    def asking(self, url: str):  # type: ignore[no-untyped-def]
        """Runs them until the block ends; gives what they get."""
        answers = Answers()
        stop = threading.Event()

        def work(number: int) -> None:
            client = grpc.InferenceServerClient(url)
            turn = number
            while not stop.is_set():
                name = self._questions.names[turn % len(self._questions.names)]
                turn += 1
                started = time.perf_counter()
                try:
                    what = self._told(name, self._questions.send(client, name))
                except Exception as error:
                    what = f"{name}: {error}"
                answers.milliseconds.append((time.perf_counter() - started) * 1e3)
                answers.seen[what] += 1
                stop.wait(self._pause)
            client.close()

        threads = [threading.Thread(target=work, args=(n,)) for n in range(self._count)]
        for thread in threads:
            thread.start()
        try:
            yield answers
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _told(self, name: str, vector: np.ndarray) -> str:
        expected = self._expected["text" if "text" in name else "image"]
        if np.allclose(vector, expected, atol=1e-4):
            return "old"
        return "new" if np.allclose(vector, -expected, atol=1e-4) else f"{name}: another vector"


def machine() -> dict[str, object]:
    """Names the machine: without it a figure means nothing."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.is_file() else []  # fmt: skip
    cpu = names[0] if names else platform.processor() or platform.machine()
    return {"cpu": cpu, "cores": os.cpu_count(), "gpu": None, "python": platform.python_version()}


if __name__ == "__main__":
    main()
