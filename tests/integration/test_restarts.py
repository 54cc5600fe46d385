"""An engine's process that dies, and a Triton that ends, while `vireo serve` runs."""

import json
import os
import re
import shutil
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
from vireo_client.files import replacing
from vireo_client.repository import PARITY_FILE
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

    def run(*options: object, most: int = 5, folder: Path = repository.folder) -> Serve:
        output, errors = tmp_path / "output", tmp_path / "errors"
        with output.open("w") as lines, errors.open("w") as stream:
            process = start(
                [sys.executable, "-c", _SERVE, most, "serve", folder, "--http-port", 0,
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
    wait_until(served.embeds)
    # On a busy machine, an engine that is not stopped may be silent for as long.
    (count,) = served.restarts("engine")
    assert count >= 1


def test_a_triton_that_ends_is_started_anew(serve):
    served = serve()
    os.kill(served.triton, signal.SIGKILL)
    served.wait_for("Triton started anew")
    assert (
        "Triton ended by itself (exit -9, SIGKILL): nothing in its log" in served.errors.read_text()
    )
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


def _nested(repository: Path) -> None:
    (repository / "bundle.json").write_text("[" * 100_000)


def _digits(repository: Path) -> None:
    path = repository / "bundle.json"
    path.write_text(path.read_text().replace('"embedding_dim": ', '"embedding_dim": ' + "9" * 9000))


def _deep_model(repository: Path) -> None:
    path = repository / "bundle.json"
    described = json.loads(path.read_text())
    deep = '{"a":' * 900 + "1" + "}" * 900
    path.write_text(json.dumps(described | {"model": "MODEL"}).replace('"MODEL"', deep))


def _garbage_engine(repository: Path) -> None:
    path = next(repository.glob("text_encoder/*/model.onnx"))
    path.unlink()
    path.write_bytes(os.urandom(1000))


def _spoilt(name: str, content: bytes):
    def damage(repository: Path) -> None:
        path = repository / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return damage


DAMAGES = {
    "configuration not UTF-8": _spoilt("text_encoder/config.pbtxt", b"\xff\xfe"),
    "configuration of nulls": _spoilt("image_encoder/config.pbtxt", b"\0" * 100),
    "configuration nested": _spoilt("embed_text/config.pbtxt", b"ensemble_scheduling {" * 10_000),
    "configuration empty": _spoilt("embed_image/config.pbtxt", b""),
    "a superscript for a version": lambda r: (r / "text_encoder" / "²").mkdir(),
    "a version of many digits": lambda r: (r / "text_encoder" / ("9" * 200)).mkdir(),
    "bundle nested": _nested,
    "bundle with 9,000 digits": _digits,
    "bundle with a deep model": _deep_model,
    "bundle of another kind": _spoilt("bundle.json", b"[]"),
    "bundle not UTF-8": _spoilt("bundle.json", b"\xff\xfe{}"),
    "a folder for the bundle": lambda r: (
        (r / "bundle.json").unlink(),
        (r / "bundle.json").mkdir(),
    ),
    "versions nested": _spoilt("versions.json", b"[" * 100_000),
    "engine of garbage": _garbage_engine,
    "tokenizer of garbage": _spoilt("text_encoder/1/tokenizer.json", b"{}"),
    "no tokenizer": lambda r: (r / "tokenizer.json").unlink(),
}


def test_a_damaged_publication_is_logged_and_the_old_one_served(repository, serve, tmp_path):
    own = shutil.copytree(repository.folder, tmp_path / "own")
    served = serve("--no-reload", folder=own)  # so that each signal is one reload
    taken = []
    for name, damage in DAMAGES.items():
        seen = served.errors.read_text()
        with replacing(own, marker=PARITY_FILE) as draft:
            shutil.copytree(repository.folder, draft, dirs_exist_ok=True)
            damage(draft)
        served.process.send_signal(signal.SIGHUP)
        output = served.output.read_text()
        wait_until(
            lambda seen=seen, output=output: (
                served.errors.read_text() != seen
                or served.output.read_text() != output
                or served.process.poll() is not None
            )
        )
        assert served.process.poll() is None, (name, served.errors.read_text()[-2000:])
        assert served.embeds(), name
        if served.errors.read_text() == seen:
            taken.append(name)
    # A folder that is no version and a root file that only clients read do no harm.
    assert set(taken) <= {
        "a superscript for a version", "a version of many digits", "versions nested",
        "bundle with a deep model",
    }  # fmt: skip
    assert "Traceback" not in served.errors.read_text()
