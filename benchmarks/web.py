"""Measure the HTTP API: one user on a large index, and many users at once.

One user: the answers' own times (`milliseconds`), and the whole request from here; then the
thumbnails of one page of matches, made and kept. Many users: `--searchers` threads that each ask,
wait for the answer and ask again, for `--seconds`. With `--triton`, the towers run in a Triton,
which is stopped and started again in the middle of that time.

The index holds random unit vectors beside the model, `--rows` of them: a search takes as long with
them as with photos. Searchers, server and Triton share this machine.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image
from support import (
    DEMO,
    machine,
    option_parser,
    percentiles,
    print_heading,
    print_table,
    write_report,
)
from vireo_client.bundle import Bundle
from vireo_client.index import IndexWriter, NewImage
from vireo_client.index.rows import FileStamp

QUERIES = ("hai con chó trên bãi cỏ", "một con mèo", "ba con cá màu tím", "hoàng hôn trên biển",
           "xe đạp", "chợ nổi buổi sáng", "trẻ em chơi bóng đá", "một bát phở", "ruộng bậc thang",
           "cầu thang gỗ", "hai người đi bộ dưới mưa", "con trâu trên đồng")  # fmt: skip
PHOTOS = 24
"""Images that exist, so that there are thumbnails."""


def write_index(folder: Path, bundle: Bundle, rows: int) -> Path:
    """Write an index of random vectors, of which the first are of images that exist."""
    rng = np.random.default_rng(0)
    photos = folder / "photos"
    photos.mkdir()
    with IndexWriter(folder / "index", bundle) as writer:
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            vectors = rng.standard_normal((count, bundle.config.embedding_dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            images = []
            for number, vector in enumerate(vectors, start):
                path, stamp = photos / f"{number}.jpg", FileStamp(1, 1)
                if number < PHOTOS:
                    noise = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
                    large = Image.fromarray(noise).resize((4000, 3000), Image.Resampling.BICUBIC)
                    large.save(path, quality=90)
                images.append(NewImage(str(path), f"{number:064x}", stamp, vector))
            writer.add(images)
        writer.save()
        writer.compact()
    return folder / "index"


@contextmanager
def web(index: Path, model: Path, cache: Path, *options: str) -> Iterator[int]:
    """Run `vireo web` on a free port."""
    command = [sys.executable, "-c", "from vireo_client.cli import main; main()", "web", index,
               "--model", model, "--port", "0", *options]  # fmt: skip
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().split()[4]
        yield int(address.rstrip("/").rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


class Caller:
    """One user: a connection that stays open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str) -> tuple[int, dict[str, str], bytes, float]:
        """Return status, headers, body and seconds; status 0 if the connection failed."""
        started = time.perf_counter()
        try:
            self._connection.request("GET", path)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, {}, b"", time.perf_counter() - started
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, body, time.perf_counter() - started

    def search(self, number: int) -> tuple[int, dict[str, str], bytes, float]:
        """Ask for the matches of a query; another number is another query."""
        query = f"{QUERIES[number % len(QUERIES)]} {number}"
        return self.get(f"/v1/search?k=24&q={quote(query)}")


def one_user(port: int, requests: int) -> dict[str, Any]:
    """Ask one after the other; tell the parts of the time, and what thumbnails take."""
    caller = Caller(port)
    for number in range(10):
        caller.search(number)
    whole, beyond, parts = [], [], []
    for number in range(requests):
        status, _, body, seconds = caller.search(number)
        assert status == 200, body
        told = json.loads(body)["milliseconds"]
        whole.append(seconds)
        beyond.append(seconds - told["embed"] / 1000)
        parts.append(told)
    thumbnails = {}
    for name in ("made", "kept"):
        times = [caller.get(f"/v1/images/{id_}/thumbnail") for id_ in range(1, PHOTOS + 1)]
        assert {status for status, *_ in times} == {200}
        thumbnails[name] = percentiles([seconds for *_, seconds in times])
    return {
        "request_ms": percentiles(whole),
        "embed_ms": percentiles([part["embed"] / 1000 for part in parts]),
        "request_without_embedding_ms": percentiles(beyond),
        "thumbnail_ms": thumbnails,
    }


class Crowd:
    """Many users who ask all the time."""

    def __init__(self, port: int, searchers: int) -> None:
        self._port = port
        self._over = threading.Event()
        self.seconds: list[float] = []
        """Of the answers with 200."""
        self.statuses: Counter[int] = Counter()
        self.without_retry_after = 0
        self._threads = [
            threading.Thread(target=self._ask, args=(1000 * n,)) for n in range(searchers)
        ]

    def _ask(self, number: int) -> None:
        caller = Caller(self._port)
        while not self._over.is_set():
            number += 1
            status, headers, _, seconds = caller.search(number)
            self.statuses[status] += 1
            if status == 200:
                self.seconds.append(seconds)
                continue
            self.without_retry_after += "retry-after" not in headers
            self._over.wait(0.2)

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop, and wait for the last answers."""
        self._over.set()
        for thread in self._threads:
            thread.join()


def many_users(port: int, searchers: int, seconds: float) -> dict[str, Any]:
    """Let many ask for some time."""
    crowd = Crowd(port, searchers)
    crowd.start()
    time.sleep(seconds)
    crowd.end()
    return {
        "searchers": searchers,
        "seconds": seconds,
        "answers_per_second": round(len(crowd.seconds) / seconds, 1),
        "request_ms": percentiles(crowd.seconds),
        "statuses": {str(status): n for status, n in sorted(crowd.statuses.items())},
    }


def through_a_restart(
    index: Path, model: Path, cache: Path, searchers: int, seconds: float
) -> dict[str, Any]:
    """Let many ask while the Triton that embeds is stopped and started again."""
    from vireo_serving.server.ports import Ports
    from vireo_serving.server.server import TritonServer

    with ExitStack() as opened:
        first = TritonServer(model, ports=Ports(0, 0, 0))
        opened.callback(first.stop)
        port = opened.enter_context(web(index, model, cache, "--triton", first.url))
        crowd = Crowd(port, searchers)
        crowd.start()
        time.sleep(seconds / 3)
        before = len(crowd.seconds)
        quiet = percentiles(crowd.seconds)
        first.stop()
        time.sleep(seconds / 6)
        opened.enter_context(TritonServer(model, ports=first.ports))
        back = time.perf_counter()
        answered = len(crowd.seconds)
        while len(crowd.seconds) == answered:
            time.sleep(0.01)
        recovered = time.perf_counter() - back
        time.sleep(seconds / 2)
        crowd.end()
    return {
        "searchers": searchers,
        "request_ms_before": quiet,
        "answers_before": before,
        "answers_after": len(crowd.seconds) - answered,
        "seconds_until_answers_come_again": round(recovered, 2),
        "statuses": {str(status): n for status, n in sorted(crowd.statuses.items())},
        "errors_without_retry_after": crowd.without_retry_after,
    }


def main() -> None:
    """Run all parts and write the results."""
    parser = option_parser(__doc__ or "", "web.json")
    parser.add_argument("--model", type=Path, default=DEMO / "model_repository")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--searchers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--triton", action="store_true", help="also through a Triton that restarts")
    arguments = parser.parse_args()
    bundle = Bundle(arguments.model)
    report: dict[str, Any] = {"machine": machine(), "rows": arguments.rows,
                              "dim": bundle.config.embedding_dim,
                              # Well above 0, others used the machine too.
                              "load_average_before": round(os.getloadavg()[0], 1)}  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = write_index(folder, bundle, arguments.rows)
        with web(index, arguments.model, folder / "cache") as port:
            report["one_user"] = one_user(port, arguments.requests)
            report["many_users"] = many_users(port, arguments.searchers, arguments.seconds)
        if arguments.triton:
            report["through_a_restart"] = through_a_restart(
                index, arguments.model, folder / "cache", arguments.searchers, arguments.seconds
            )
    write_report(report, arguments.output)
    print_heading(report, f"{arguments.rows:,} images")
    for part in ("one_user", "many_users", "through_a_restart"):
        if part in report:
            rows = [(key, json.dumps(value)) for key, value in report[part].items()]
            print_table(["", part.replace("_", " ")], rows)


if __name__ == "__main__":
    main()
