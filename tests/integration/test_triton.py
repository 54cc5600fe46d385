"""Everything here runs against a real Triton Inference Server."""

import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support.processes import start
from support.waiting import wait_until
from tritonclient.utils import InferenceServerException
from vireo_client import __version__
from vireo_client.bundle import Bundle
from vireo_client.embedder import Embedder
from vireo_client.errors import ServerError, ServerRejected, ServerUnavailable
from vireo_client.repository import model_file
from vireo_client.towers.triton import TritonTowers
from vireo_serving.configs.triton_config import CONFIG_FILE, read_config, write_config
from vireo_serving.models import exported_with
from vireo_serving.server.launch import check_python
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

FREE = Ports(0, 0, 0)


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # A zombie whose parent has not waited yet does not count as alive.
    return stat.rpartition(")")[2].split()[0] != "Z"


def _children(pid: int) -> list[int]:
    """The process and all below it."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    family = [pid]
    for member in family:
        family += [child for child, parent in pairs if parent == member]
    return family


def test_the_server_is_ready_and_knows_its_version(triton):
    assert triton.version.startswith("2.")
    with urllib.request.urlopen(
        f"http://127.0.0.1:{triton.ports.metrics}/metrics", timeout=60
    ) as answer:
        assert b"nv_inference_request_success" in answer.read()


def test_it_listens_on_loopback_only(triton):
    tables = [Path("/proc/net") / name for name in ("tcp", "tcp6")]
    listed = [line for table in tables for line in table.read_text().splitlines()[1:]]
    ports = {triton.ports.http, triton.ports.grpc, triton.ports.metrics}
    found = {}
    for line in listed:
        address, state = line.split()[1], line.split()[3]
        host, port = address.split(":")
        if state == "0A" and int(port, 16) in ports:
            found[int(port, 16)] = host
    # 127.0.0.1, little-endian; in the IPv6 table it is mapped into ::ffff:0:0/96.
    assert found.keys() == ports
    assert set(found.values()) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_requests_from_many_threads_are_batched_and_stay_apart(triton, repository):
    towers = TritonTowers(repository, triton.url)
    rng = np.random.default_rng(0)
    inputs = [
        rng.integers(4, repository.config.text.vocab_size, (n % 3 + 1, b), dtype=np.int32)
        for n in range(40)
        for b in (16, 32)
    ]
    alone = [towers.encode_text(ids) for ids in inputs]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(towers.encode_text, inputs))
    for a, b in zip(alone, together, strict=True):
        assert np.allclose(a, b, atol=1e-5)


def test_a_bad_request_fails_alone(triton, repository):
    """Ids outside the vocabulary fail; the good requests beside them in a batch do not."""
    towers = TritonTowers(repository, triton.url)
    good = np.full((1, 16), 5, dtype=np.int32)
    bad = np.full((1, 16), 10**6, dtype=np.int32)
    expected = towers.encode_text(good)

    def ask(ids):
        try:
            return towers.encode_text(ids)
        except ServerError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [good, bad] * 20))
    for number, answer in enumerate(answers):
        if number % 2:
            assert isinstance(answer, ServerError)
        else:
            assert np.allclose(answer, expected, atol=1e-5)


def test_a_batch_over_the_limit_is_split_by_the_embedder_and_refused_by_the_server(
    triton, repository
):
    towers = TritonTowers(repository, triton.url)
    with pytest.raises(ServerRejected, match="batch"):
        towers.encode_text(np.full((65, 16), 5, dtype=np.int32))
    with Embedder(repository, towers) as embedder:
        assert embedder.embed_texts(["con cá"] * 150).shape == (150, 256)


def test_a_wrong_shape_is_an_error_of_triton(triton):
    client = grpc.InferenceServerClient(triton.url)
    tensor = grpc.InferInput("pixels", [1, 3, 8, 8], "UINT8")
    tensor.set_data_from_numpy(np.zeros((1, 3, 8, 8), np.uint8))
    with pytest.raises(InferenceServerException, match="shape"):
        client.infer("image_encoder", [tensor])


def test_a_repository_of_another_version_is_served_with_a_warning(repository, tmp_path, caplog):
    """Once by `vireo serve`, and once a model in Triton's log, whatever the number of instances."""
    folder = shutil.copytree(repository.folder, tmp_path / "r")
    for path in folder.glob(f"*/{CONFIG_FILE}"):
        config = read_config(path)
        assert config.parameters[exported_with.PARAMETER].string_value == __version__
        config.parameters[exported_with.PARAMETER].string_value = "0.1.5"
        if path.parent.name == "text_encoder":
            config.instance_group[0].count = 2
        write_config(config, path.parent)
    warning = exported_with.mismatch("0.1.5", __version__)
    ids = np.full((1, 16), 5, dtype=np.int32)
    with TritonServer(folder, ports=FREE, log=tmp_path / "log") as server:
        assert TritonTowers(repository, server.url).encode_text(ids).shape[0] == 1
    lines = [line.partition("] ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    logged = [line.strip('"') for line in lines if "0.1.5" in line]
    assert sorted(logged) == [
        f"{model}@1: {warning}" for model in ("image_encoder", "text_encoder")
    ]
    assert caplog.messages == [f"{folder}: {warning}"]


def test_a_server_of_another_bundle_is_refused(triton, repository):
    other = Bundle(repository.folder)
    other.config = other.config.model_copy(update={"bundle_id": "0123456789abcdef"})
    with pytest.raises(ServerError, match=r"is of bundle .* serve the same repository"):
        TritonTowers(other, triton.url)


def test_a_server_that_is_not_there_is_an_error(repository):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ServerUnavailable, match="vireo serve"):
        TritonTowers(repository, url, connect_timeout=2)


def test_a_port_in_use_is_named(triton, repository):
    with pytest.raises(ServerError, match=rf"port {triton.ports.grpc} \(grpc\) is in use"):
        TritonServer(repository.folder, ports=Ports(0, triton.ports.grpc, 0))


def test_a_server_that_fails_while_starting_shows_its_logs_error(repository, tmp_path):
    folder = shutil.copytree(repository.folder, tmp_path / "r")
    model_file(folder, "text_encoder").write_bytes(b"not onnx")
    with pytest.raises(ServerError, match=r"(?s)Triton ended while starting.*model\.onnx"):
        TritonServer(folder, ports=FREE)


def test_a_server_that_is_killed_while_starting_is_an_error(repository, tmp_path):
    fake = tmp_path / "tritonserver"
    fake.write_text("#!/bin/sh\necho 'E1121 01:02:03.4 1 main.cc:1] cannot go on'\nkill -9 $$\n")
    fake.chmod(0o755)
    with pytest.raises(ServerError, match=r"exit -9, SIGKILL\): cannot go on"):
        TritonServer(repository.folder, ports=FREE, binary=fake)


def test_a_server_that_aborts_while_starting_is_started_again(repository, tmp_path, caplog):
    fake = tmp_path / "tritonserver"
    fake.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/starts\n"
        "echo 'E1121 01:02:03.4 1 main.cc:1] lock error'\nkill -ABRT $$\n"
    )
    fake.chmod(0o755)
    with pytest.raises(ServerError, match=r"exit -6, SIGABRT\): lock error"):
        TritonServer(repository.folder, ports=FREE, binary=fake)
    assert (tmp_path / "starts").read_text().split() == ["x", "x", "x"]
    assert caplog.text.count("did not start, starting it again: lock error") == 2


def test_a_server_that_never_gets_ready_is_stopped(repository, tmp_path, monkeypatch):
    fake = tmp_path / "tritonserver"
    fake.write_text("#!/bin/sh\nsleep 600\n")  # no `exec`: the shell's arguments stay in sight
    fake.chmod(0o755)

    def running():
        listed = subprocess.run(
            ["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True
        )
        return [line for line in listed.stdout.splitlines() if str(fake) in line]

    seen = []
    poll = TritonServer.poll

    def observed(server):
        seen.extend(running())
        return poll(server)

    monkeypatch.setattr(TritonServer, "poll", observed)
    with pytest.raises(ServerError, match="not ready after 1 s"):
        TritonServer(repository.folder, ports=FREE, binary=fake, timeout=1)
    assert seen
    wait_until(lambda: not running())


def test_a_given_binary_must_exist(repository, tmp_path):
    with pytest.raises(ServerError, match="no such program"):
        TritonServer(repository.folder, ports=FREE, binary=tmp_path / "gone")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("echo 2.1.0", "numpy is 2.1.0; under numpy 2"),
        ("echo 'ModuleNotFoundError: No module named onnxruntime' >&2; exit 1", "onnxruntime"),
    ],
)
def test_a_python_that_does_not_suit_the_backend_is_refused(tmp_path, program, message):
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    with pytest.raises(ServerError, match=message):
        check_python({"PATH": str(tmp_path)}, towers=True)


_SERVE = """
import sys
from pathlib import Path
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer
server = TritonServer(Path(sys.argv[1]), ports=Ports(0, 0, 0))
print(server._process.pid, flush=True)
server.wait()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_goes_with_its_parent(repository, how):
    parent = start(
        [sys.executable, "-c", textwrap.dedent(_SERVE), repository.folder],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert parent.stdout is not None
    family = _children(int(parent.stdout.readline()))
    assert len(family) >= 3  # Triton and two Python stubs
    parent.send_signal(how)
    parent.wait(120)
    wait_until(lambda: not any(map(_alive, family)))


def test_vireo_serve_ends_cleanly_on_ctrl_c(repository, tmp_path):
    vireo = Path(sys.executable).parent / "vireo"
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    with (tmp_path / "errors").open("w") as errors:  # gRPC's own log lines go there too
        process = start(
            [vireo, "serve", repository.folder, *ports], stdout=subprocess.PIPE, stderr=errors
        )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "is ready" in first, first + (tmp_path / "errors").read_text()
        family = _children(process.pid)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "stopping Triton" in output
    wait_until(lambda: not any(map(_alive, family)))
