"""Measure reloads: a new publication every two seconds, while eight clients ask without a pause.

Run `make demo` first, then `python benchmarks/reload.py`. Clients call the ensembles and the
towers. Each answer must be the embedding of the old or of the new publication, whose towers answer
the opposite. Latencies are quoted beside those of the same clients without reloads. Writes
`benchmarks/results/reload.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc
from publications import Publisher
from support import DEMO, machine, option_parser, percentiles, write_report
from vireo_client.bundle import Bundle
from vireo_client.captions import read_captions
from vireo_client.embedder import Embedder
from vireo_client.images import load_pixels
from vireo_client.towers.onnx import OnnxTowers
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

TIMEOUT = 60
"""Seconds that a client waits for an answer."""


def main() -> None:
    parser = option_parser(__doc__, "reload.json")
    parser.add_argument("--run", type=Path, default=DEMO, help="the demo's folder")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=2, help="seconds between publications")
    parser.add_argument("--pause-ms", type=float, default=0, help="pause after an answer")
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 1)  # of the machine's other work
    exported = Bundle(options.run / "model_repository")
    records = read_captions(options.run / "scenes" / "test").records
    caption, image = records[0].captions[0], records[0].path.read_bytes()
    with Embedder(exported, OnnxTowers.from_repository(exported)) as embedder:
        ((_, ids),) = embedder.text_path.encode([caption])
        expected = {"text": embedder.embed_texts([caption])[0],
                    "image": embedder.embed_images([image])[0]}  # fmt: skip
    requests = Requests(caption, image, ids, load_pixels(image, exported.config.image)[None])
    clients = Clients(requests, expected, options)

    with tempfile.TemporaryDirectory(dir=options.run) as folder:
        repository = Path(folder) / "model_repository"
        publisher = Publisher(exported, repository, Path(folder), records)
        publisher.publish(negated=False)
        with TritonServer(repository, ports=Ports(0, 0, 0)) as server:
            with clients.asking(server.url):
                time.sleep(3)  # warm
            with clients.asking(server.url) as without_reloads:
                time.sleep(options.seconds / 2)
            switches = []
            late = 0.0
            with clients.asking(server.url) as with_reloads:
                begin = time.monotonic()
                for number in range(round(options.seconds / options.every)):
                    due = begin + number * options.every
                    time.sleep(max(0.0, due - time.monotonic()))
                    late = max(late, time.monotonic() - due)
                    publisher.publish(negated=number % 2 == 0)
                    start = time.monotonic()
                    server.reload()
                    switches.append(time.monotonic() - start)
                seconds = time.monotonic() - begin
            version = server.version
    report = {
        "machine": machine() | {"load_before": load},
        "settings": {"clients": options.clients, "seconds_between": options.every,
                     "pause_ms": options.pause_ms, "triton": version,
                     "embedding_dim": exported.config.embedding_dim},
        "reloads": len(switches),
        "seconds": round(seconds, 1),
        "most_seconds_late": round(late, 2),
        "switch_seconds": {"p50": round(float(np.median(switches)), 2),
                           "max": round(max(switches), 2)},
        "with_reloads": with_reloads.summary(seconds),
        "without_reloads": without_reloads.summary(options.seconds / 2),
    }  # fmt: skip
    write_report(report, options.output)
    print(json.dumps(report, indent=2))


class Requests:
    """One request for every name that a service may call."""

    def __init__(self, text: str, image: bytes, ids: np.ndarray, pixels: np.ndarray) -> None:
        self._inputs = {
            "embed_text": ("text", np.array([[text.encode()]], dtype=object), "BYTES"),
            "embed_image": ("image", np.array([[image]], dtype=object), "BYTES"),
            "text_encoder": ("input_ids", ids, "INT32"),
            "image_encoder": ("pixels", pixels, "UINT8"),
        }
        self.models = tuple(self._inputs)

    def send(self, client: grpc.InferenceServerClient, model: str) -> np.ndarray:
        """Send the request of `model` and return its embedding, FP32 `[D]`."""
        name, values, datatype = self._inputs[model]
        tensor = grpc.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        output = grpc.InferRequestedOutput("embedding")
        answer = client.infer(model, [tensor], outputs=[output], client_timeout=TIMEOUT)
        return np.asarray(answer.as_numpy("embedding")[0])


class Answers:
    """The answers to all clients within one period."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.counts: Counter[str] = Counter()
        """Answers by publication, `old` or `new`, and failures by their message."""

    def summary(self, seconds: float) -> dict[str, object]:
        failures = {what: n for what, n in self.counts.items() if what not in ("old", "new")}
        return {
            "requests": len(self.seconds),
            "requests_per_second": round(len(self.seconds) / seconds, 1),
            "failed": sum(failures.values()),
            "of_the_even_publications": self.counts["new"],
            "of_the_odd_publications": self.counts["old"],
            "latency_ms": percentiles(self.seconds, digits=2)
            | {"max": round(1e3 * max(self.seconds), 2)},
            "failures": failures,
        }


class Clients:
    """Threads that send the same requests again and again."""

    def __init__(
        self,
        requests: Requests,
        expected: dict[str, np.ndarray],
        options: argparse.Namespace,
    ) -> None:
        self._requests = requests
        self._expected = expected
        self._count: int = options.clients
        self._pause = options.pause_ms / 1e3

    @contextmanager
    def asking(self, url: str) -> Iterator[Answers]:
        """Run them until the block ends, and yield the answers that they get."""
        answers = Answers()
        stop = threading.Event()

        def work(number: int) -> None:
            client = grpc.InferenceServerClient(url)
            turn = number
            while not stop.is_set():
                model = self._requests.models[turn % len(self._requests.models)]
                turn += 1
                start = time.perf_counter()
                try:
                    outcome = self._publication(model, self._requests.send(client, model))
                except Exception as error:
                    outcome = f"{model}: {error}"
                answers.seconds.append(time.perf_counter() - start)
                answers.counts[outcome] += 1
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

    def _publication(self, model: str, embedding: np.ndarray) -> str:
        expected = self._expected["text" if "text" in model else "image"]
        if np.allclose(embedding, expected, atol=1e-4):
            return "old"
        if np.allclose(embedding, -expected, atol=1e-4):
            return "new"
        return f"{model}: another vector"


if __name__ == "__main__":
    main()
