"""An engine's process that dies, and a Triton that ends, while `vireo serve` runs."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest
from support.processes import start
from support.waiting import wait_until
from vireo_client.errors import ServerError
from vireo_serving.server.healthcheck import check

_SERVE = """
import sys
from functools import partial
from vireo_serving.server import health, restarts, watch
health.EVERY_SECONDS = 0.2
watch.MOST = restarts.MOST = int(sys.argv.pop(1))
watch.watch = partial(watch.watch, seconds=0.1)
from vireo_client.cli import main
main()
"""


class Serve(NamedTuple):
    """A `vireo serve` that runs."""

    process: subprocess.Popen[str]
    output: Path
    errors: Path
    http: str
    metrics: str
    memory: str
    """What the names of its shared memory begin with."""

    def children(self, pid: int | None = None) -> dict[int, str]:
        """Return the command lines of a process's children, by their numbers."""
        listed = subprocess.run(
            ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        )
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        parent = str(pid or self.process.pid)
        return {int(row[0]): row[2] for row in rows if row[1] == parent}

    @property
    def triton(self) -> int:
        return next(pid for pid, args in self.children().items() if "tritonserver" in args)

    def stub(self, model: str) -> int:
        stubs = self.children(self.triton)
        return next(pid for pid, args in stubs.items() if f"{model}@" in args)

    def embeds(self) -> bool:
        body = {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": ["cá"]}]}
        request = urllib.request.Request(
            f"{self.http}/v2/models/embed_text/infer", json.dumps(body).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return bool(json.load(answer)["outputs"][0]["data"])
        except OSError:
            return False

    def restarts(self, cause: str) -> list[float]:
        with urllib.request.urlopen(self.metrics, timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line for line in lines if line.startswith("vireo_restarts_total{")]
        return [float(line.split()[-1]) for line in counts if f'cause="{cause}"' in line]

    def wait_for(self, line: str) -> None:
        """Wait until the command has printed a line."""
        wait_until(lambda: line in self.output.read_text() or self.process.poll() is not None)
        assert line in self.output.read_text(), self.errors.read_text()

    def shared_memory(self) -> list[str]:
        return [name for name in os.listdir("/dev/shm") if name.startswith(self.memory)]


@pytest.fixture
def serve(repository, tmp_path):
    """Start `vireo serve`, which ends at the restart after `most`."""
    started = []

    def run(*options: object, most: int = 5) -> Serve:
        output, errors = tmp_path / "output", tmp_path / "errors"
        with output.open("w") as lines, errors.open("w") as stream:
            process = start(
                [sys.executable, "-c", _SERVE, most, "serve", repository.folder, "--http-port", 0,
                 "--grpc-port", 0, "--metrics-port", 0, *options],
                stdout=lines, stderr=stream, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        started.append(process)
        wait_until(lambda: "next: " in output.read_text() or process.poll() is not None)
        assert "is ready" in output.read_text(), errors.read_text()
        words = output.read_text().splitlines()[1].split()
        served = Serve(process, output, errors, words[3], words[5], "")
        flags = served.children()[served.triton]
        (memory,) = re.findall(r"shm-region-prefix-name=(vireo_\w{8})_", flags)
        return served._replace(memory=memory)

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("model", ["text_encoder", "image_encoder"])
def test_an_engine_that_is_killed_is_noticed_and_mended(serve, model):
    served = serve()
    check(served.http)
    assert served.restarts("engine") == [0]
    os.kill(served.stub(model), signal.SIGKILL)
    served.wait_for("Triton started anew")
    assert f"the engine {model}@1" in served.errors.read_text()
    assert "is not healthy" in served.errors.read_text()
    wait_until(served.embeds)
    assert _ready(served.http)
    check(served.http)
    assert served.restarts("engine") == [1]
    assert served.restarts("server") == [0]
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(120)
    assert served.process.returncode == 0
    assert served.shared_memory() == []


def test_an_engine_that_is_stopped_counts_as_dead_after_a_time(serve):
    served = serve("--dead-after", 2)
    os.kill(served.stub("text_encoder"), signal.SIGSTOP)
    served.wait_for("Triton started anew")
    assert served.embeds()
    assert served.restarts("engine") == [1]


def test_a_triton_that_ends_is_started_anew(serve):
    served = serve()
    os.kill(served.triton, signal.SIGKILL)
    served.wait_for("Triton started anew")
    assert "Triton ended by itself (exit -9)" in served.errors.read_text()
    assert served.embeds()
    assert served.restarts("server") == [1]
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(120)
    assert served.process.returncode == 0
    assert served.shared_memory() == []


def test_what_cannot_be_mended_ends_the_command(serve):
    served = serve(most=0)
    os.kill(served.stub("text_encoder"), signal.SIGKILL)
    served.process.wait(120)
    assert served.process.returncode == 1
    assert "is given up" in served.errors.read_text()
    assert served.shared_memory() == []


def test_without_probes_an_engine_may_die(serve):
    served = serve("--dead-after", 0)
    os.kill(served.stub("text_encoder"), signal.SIGKILL)
    with pytest.raises(ServerError, match="is not healthy"):
        check(served.http)
    assert not served.embeds()
    assert served.process.poll() is None
