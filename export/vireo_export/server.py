"""Starts, watches and stops a Triton Inference Server on this machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException
from vireo_client.bundle import Bundle
from vireo_client.errors import ServerError
from vireo_client.repository import MODELS, model_file

from . import carrier
from .triton_config import CONFIG_FILE, read_config

HOST = "127.0.0.1"
CACHE_BYTES = 64 << 20
"""Of the response cache, for models whose configuration enables it: some 20,000 texts."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports of the three endpoints; 0 picks a free one."""

    http: int = 8000
    grpc: int = 8001
    metrics: int = 8002


class TritonServer:
    """A running Triton, ready to answer when the constructor returns.

    Args:
        repository: the model repository that `vireo export` wrote.
        ports: where to listen on 127.0.0.1.
        binary: a `tritonserver` to use; by default the one on PATH, else the carrier.
        timeout: seconds until every model must be ready.
        log: file for the server's output; by default a temporary one, removed after a clean stop.

    On Linux the server ends with the thread that made it, however that ends: make it in a thread
    that lives as long as the server shall.

    Raises:
        BundleError: `repository` is no model repository.
        ServerError: no Triton is found, a port is in use, the Python environment does not suit the
            backend, or the server ends or stays unready; the message holds its log's own error.
    """

    def __init__(
        self,
        repository: Path,
        *,
        ports: Ports = Ports(),
        binary: Path | None = None,
        timeout: float = 120.0,
        log: Path | None = None,
    ) -> None:
        self.bundle = Bundle(repository)
        for model in MODELS:
            model_file(repository, model)
        command, environment = _command(binary)
        if _needs_python(repository):
            _check_python(environment)
        self.ports = _claim(ports)
        self._keep_log = log is not None
        if log is None:
            handle, name = tempfile.mkstemp(prefix="vireo-triton-", suffix=".log")
            os.close(handle)
            log = Path(name)
        self.log_path = log
        command += [
            f"--model-repository={repository.resolve()}",
            "--model-control-mode=none",
            "--disable-auto-complete-config",
            f"--cache-config=local,size={CACHE_BYTES}",
            # Two servers on one machine must not share the backend's shared-memory regions.
            f"--backend-config=python,shm-region-prefix-name=vireo_{os.getpid()}_{self.ports.grpc}",
        ]
        for endpoint in ("http", "grpc", "metrics"):
            port = getattr(self.ports, endpoint)
            command += [f"--{endpoint}-address={HOST}", f"--{endpoint}-port={port}"]
        with self.log_path.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=_die_with_parent, start_new_session=True,
            )  # fmt: skip
        try:
            self.version = self._wait(timeout)
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        """`host:port` of the gRPC endpoint."""
        return f"{HOST}:{self.ports.grpc}"

    def _wait(self, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        client = grpc.InferenceServerClient(self.url)
        try:
            while time.monotonic() < deadline:
                if (code := self._process.poll()) is not None:
                    raise ServerError(f"Triton ended while starting (exit {code}): {self.error()}")
                try:
                    if all(client.is_model_ready(model, client_timeout=2) for model in MODELS):
                        return str(client.get_server_metadata(client_timeout=2).version)
                except InferenceServerException:
                    pass  # not listening yet; the process is watched above
                time.sleep(0.05)
        finally:
            client.close()
        raise ServerError(f"Triton is not ready after {timeout:.0f} s: {self.error()}")

    def error(self) -> str:
        """The line of the server's log that tells best what went wrong."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        # Triton marks errors "E1121 ..."; the table of models repeats them after "UNAVAILABLE: ".
        marked = [line for line in lines if line[:1] == "E" and line[1:3].isdigit()]
        causes = [line for line in marked if "rror" in line.partition("]")[2]]
        best = (causes or marked or [line for line in lines if line.strip()] or ["no log"])[0]
        return f"{best.partition('] ')[2] or best} (log: {self.log_path})"

    def poll(self) -> int | None:
        """The exit code, or None while the server runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Waits until the server ends and gives its exit code."""
        return self._process.wait()

    def stop(self, grace: float = 15.0) -> None:
        """Stops the server and its backend processes; calling it twice does no harm."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        try:  # stubs outlive a server that had to be killed; they share its process group
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def __enter__(self) -> TritonServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if kind is None and not self._keep_log:
            self.log_path.unlink(missing_ok=True)


def _command(binary: Path | None) -> tuple[list[str], dict[str, str]]:
    """Finds a Triton and says how to start it."""
    environment = dict(os.environ)
    # The Python backend takes the environment of the first python3 on PATH: make it ours.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    if binary is not None:
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise ServerError(f"{binary}: no such program; --triton names a tritonserver binary")
        return [str(binary)], environment
    if installed := shutil.which("tritonserver"):
        return [installed], environment
    carried = carrier.find()
    if carried is None:
        raise ServerError(
            "no Triton Inference Server: none on PATH, and the carrier is not installed; "
            "`vireo serve --install-carrier` fetches one (Linux, x86-64)"
        )
    paths = [*map(str, carried.libraries), environment.get("LD_LIBRARY_PATH", "")]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(path for path in paths if path)
    command = [
        str(carried.binary),
        f"--backend-directory={carried.backends}",
        f"--cache-directory={carried.caches}",
    ]
    return command, environment


def _needs_python(repository: Path) -> bool:
    return any(
        read_config(repository / model / CONFIG_FILE).backend == "python" for model in MODELS
    )


def _check_python(environment: dict[str, str]) -> None:
    """Refuses an environment in which the Python backend would fail, some of it silently."""
    python = shutil.which("python3", path=environment["PATH"])
    if python is None:
        raise ServerError("no python3 on PATH; Triton's Python backend needs one")
    program = "import numpy, onnxruntime; print(numpy.__version__)"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it fails"
        raise ServerError(
            f"{python}: {reason}; the engines need numpy and onnxruntime there: "
            "pip install 'vireo[onnx]'"
        )
    version = done.stdout.strip()
    if int(version.split(".")[0]) >= 2:
        raise ServerError(
            f"{python}: numpy is {version}; under numpy 2 Triton's Python backend returns empty "
            "outputs without an error: pip install 'numpy==1.26.4' there"
        )


def _claim(ports: Ports) -> Ports:
    """Checks that the ports are free, and picks free ones for those given as 0."""
    held: list[socket.socket] = []
    numbers: list[int] = []
    try:
        for name in ("http", "grpc", "metrics"):
            wanted = getattr(ports, name)
            probe = socket.socket()
            held.append(probe)  # all are held until all are known, so that no two are the same
            # Triton sets this too: without it a port in TIME_WAIT would look taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, wanted))
                probe.listen(1)
            except (OSError, OverflowError):
                raise ServerError(
                    f"port {wanted} ({name}) is in use on {HOST}; "
                    f"choose another with --{name}-port (0 picks a free one)"
                ) from None
            numbers.append(probe.getsockname()[1])
    finally:
        for probe in held:
            probe.close()
    return Ports(*numbers)


# Loaded before any fork: a child may not allocate much between fork and exec.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Runs in the child: asks the kernel to end it when its parent dies, however that happens."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Turns SIGTERM into KeyboardInterrupt, so that `vireo serve` ends the same way by both."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
