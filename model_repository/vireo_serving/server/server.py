"""Starts, watches and stops a Triton Inference Server on this machine."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from vireo_client import __version__, environment
from vireo_client.errors import ServerError
from vireo_client.repository import MODELS

from ..admin import Admin
from ..models.exported_with import mismatch
from ..reload.folder import ServingFolder
from ..reload.publication import Publication, stamp
from ..reload.slots import Layout
from ..reload.switch import refuse_other_bundle_of_same_version, switch
from .health import Health
from .launch import check_plans, check_python, find_triton
from .options import LOOPBACK, ServerOptions
from .ports import Ports, claim
from .process import die_with_parent
from .shared_memory import SharedMemory

logger = logging.getLogger(__name__)

_STARTS = 3
"""How often Triton is started before its failure is final."""
_GRACE = 15.0
"""Seconds for the requests that a Triton which is stopped has accepted."""
DEAD_GRACE = 2.0
"""Seconds for the requests of other engines when one is dead: Triton waits in vain for that one."""
_NO_GPU = ("CUDA driver", "CudaDriverHelper", "NVML")
"""Parts of the errors that Triton logs on every machine without a GPU."""
_MARKED = re.compile(r"[IWEV]\d{4} |[+|]")
"""Begins the lines that Triton's log marks with a level, and those of its tables."""


class TritonServer:
    """A running Triton, ready to answer when the constructor returns.

    Args:
        repository: the model repository that `vireo export` wrote.
        ports: where to listen.
        options: addresses, keys, certificates, cache and traces.
        binary: a `tritonserver` to use; by default the one on PATH, else the carrier.
        timeout: seconds until every model must be ready, and in which a reload loads one.
        log: file for the server's output; by default a temporary one, removed after a clean stop.

    On Linux the server ends with the thread that created it, however that ends: create it in a
    thread that lives as long as the server should.

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
        options: ServerOptions | None = None,
        binary: Path | None = None,
        timeout: float = 120.0,
        log: Path | None = None,
    ) -> None:
        self.repository = repository
        self.options = options or ServerOptions()
        stamp(repository)  # fails for a folder that is no repository, before anything is created
        self._shared_memory = SharedMemory()
        self._serving = ServingFolder(repository)
        self._process: subprocess.Popen[bytes] | None = None
        self._group: int | None = None
        self._log_start = 0
        self.restarts = dict.fromkeys(environment.RESTARTS, 0)
        """How often Triton was started anew, by cause: a dead engine, or its own end."""
        self._keep_log = log is not None
        try:
            self._layout, self._seen = self._serving.copy_repository()
            self._layout.write_slots()
            for name in self._layout.names:
                self._layout.write_name(name)
            for name in self._layout.trials.values():
                self._layout.remove(name)
            command, variables = find_triton(binary)
            configs = self.publication.configs
            if any(config.backend == "python" for config in configs.values()):
                towers = any(configs[model].backend == "python" for model in MODELS)
                check_python(variables, towers=towers)
            command += check_plans(self.publication)
            self._warn_of_other_version(self.publication)
            if log is None:
                handle, name = tempfile.mkstemp(prefix="vireo-triton-", suffix=".log")
                os.close(handle)
                log = Path(name)
            self.log_path = log
            log.write_bytes(b"")
            self._command, self._variables, self._timeout = command, variables, timeout
            self.version = self._start(ports)
        except BaseException:
            self.stop()
            raise

    @property
    def publication(self) -> Publication:
        """The publication that is served."""
        return self._layout.publication

    def engine_name(self, model: str) -> str:
        """Return the name under which Triton has loaded the engine of `model`; see `slots.py`."""
        return self._layout.slots[model]

    def health(self, limit: float) -> Health:
        """Return a watch over the engines that are served now; a reload needs another.

        Args:
            limit: seconds without an answer after which an engine counts as dead.
        """
        return Health(self._admin, self._layout, limit=limit)

    def restart(self, cause: str) -> None:
        """Start Triton anew, at the same ports and with the same publication.

        This also mends an engine whose process died. A reload would not: Triton 2.51 cannot unload
        such a model, calls itself not ready from then on, and does not end when it is stopped.

        Args:
            cause: `engine` or `server`, for the counts in `restarts`.

        Raises:
            ServerError: it does not start; `restart` may be called again.
        """
        self.restarts[cause] += 1
        self._end_process(DEAD_GRACE)
        self._layout.keep_alone()  # a publication that ended Triton would end the next one too
        self._start(self.ports)

    def _start(self, ports: Ports) -> str:
        """Start Triton until it is ready, and return its version."""
        for left in reversed(range(_STARTS)):
            self.ports = claim(ports, self.options.host, self.options.http_host)
            self._admin = Admin(self.http_url, self.options.admin_key, timeout=self._timeout)
            self._process = self._launch()
            self._group = self._process.pid  # it leads a session, and so a process group
            try:
                return self._wait(self._timeout)
            except ServerError:
                if not (left and self._may_start_now(ports)):
                    raise
                logger.warning("Triton did not start, starting it again: %s", self.error())
                self._end_process(0)
        raise AssertionError("unreachable")

    def _may_start_now(self, ports: Ports) -> bool:
        """Return whether the start failed for a reason that may be gone by now.

        On a busy machine Triton 2.51 sometimes aborts while its Python backend starts
        ("boost::interprocess::lock_exception"). And another program may take a free port between
        the moment that it was found and the moment that Triton opens it.
        """
        if self.poll() == -signal.SIGABRT:
            return True
        chosen_here = 0 in (ports.http, ports.grpc, ports.metrics)
        return chosen_here and any("already in use" in line for line in self._log_lines())

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [
            *self._command,
            f"--model-repository={self._serving.root}",
            "--disable-auto-complete-config",
            f"--backend-config=python,shm-region-prefix-name={self._shared_memory.prefix}",
            *self.options.flags(self.ports),
        ]
        variables = self._variables | {
            environment.RESTARTS[cause]: str(count) for cause, count in self.restarts.items()
        }
        with self.log_path.open("ab") as output:  # what ended an earlier Triton stays readable
            self._log_start = output.tell()
            return subprocess.Popen(
                command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=die_with_parent, start_new_session=True,
            )  # fmt: skip

    def shared_memory(self) -> int:
        """Return the bytes of shared memory that the models in Python take.

        Triton 2.51 gives none of it back while a model is loaded.
        """
        return self._shared_memory.size()

    @staticmethod
    def _reachable(host: str) -> str:
        return {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)

    @property
    def url(self) -> str:
        """Address of the gRPC endpoint for clients on this machine; `grpcs://` means TLS."""
        scheme = "grpcs://" if self.options.tls else ""
        return f"{scheme}{self._reachable(self.options.host)}:{self.ports.grpc}"

    @property
    def http_url(self) -> str:
        """`http://host:port` of the HTTP endpoint."""
        return f"http://{self._reachable(self.options.http_host)}:{self.ports.http}"

    @property
    def metrics_url(self) -> str:
        """URL of the metrics, for Prometheus."""
        return f"http://{self._reachable(self.options.host)}:{self.ports.metrics}/metrics"

    def _wait(self, timeout: float) -> str:
        deadline = time.monotonic() + timeout
        waiting = list(self.publication.configs)
        while time.monotonic() < deadline:
            if self.poll() is not None:
                raise ServerError(f"Triton ended while starting ({self.end()}): {self.error()}")
            while waiting and self._admin.ready(waiting[-1]):
                waiting.pop()
            if not waiting and self._has_metrics():  # their endpoint opens last
                return self._admin.version()
            time.sleep(0.05)
        raise ServerError(f"Triton is not ready after {timeout:.0f} s: {self.error()}")

    def _has_metrics(self) -> bool:
        host = self._reachable(self.options.host).strip("[]")
        try:
            socket.create_connection((host, self.ports.metrics), timeout=2).close()
        except OSError:
            return False
        return True

    def changed(self) -> bool:
        """Return whether the repository has been published since the start or the last reload.

        Raises:
            BundleError: the repository is gone.
        """
        return stamp(self.repository) != self._seen

    def reload(self) -> Publication:
        """Serve the present publication of the repository; no request is lost on the way.

        Without `model_control` Triton is started anew, and answers nothing meanwhile.

        Raises:
            BundleError, ExportError: the repository is incomplete; the old publication is served.
            ServerError: the new publication does not load; the old one is served.
        """
        self._seen = stamp(self.repository)  # a failed reload is tried again after a change
        new, self._seen = self._serving.copy_repository()
        try:
            check_plans(new.publication)
            self._warn_of_other_version(new.publication)
            if self.options.model_control:
                switch(self._admin, self._layout, new)
                self._layout = new
            else:
                self._start_with(new)
        except ServerError as error:
            reason = self._serving.with_repository_paths(str(error))
            raise ServerError(f"{self.repository}: not reloaded: {reason}") from error
        finally:
            self._serving.keep_only(self._layout)
        return new.publication

    def _start_with(self, new: Layout) -> None:
        """Start Triton anew with another publication; with the old one again if that fails."""
        old = self._layout
        refuse_other_bundle_of_same_version(old.publication, new.publication)
        try:
            self._change_to(new)
        except ServerError:
            self._change_to(old)
            raise

    def _change_to(self, layout: Layout) -> None:
        self._end_process(_GRACE)
        self._layout = layout
        layout.keep_alone()
        layout.write_slots()
        for name in layout.trials.values():
            layout.remove(name)
        self._start(self.ports)

    def _warn_of_other_version(self, publication: Publication) -> None:
        """Log a warning for each vireo other than this one that exported a model."""
        for version in publication.exported_with():
            if warning := mismatch(version, __version__):
                logger.warning("%s: %s", self.repository, warning)

    def error(self, *, last: bool = False) -> str:
        """Return the line of the server's log that is most likely to name the cause.

        Args:
            last: take the last such line instead of the first: a Triton that had started has
                logged errors before that did not end it.
        """
        lines = [
            line
            for line in self._log_lines()
            if line.strip() and not any(words in line for words in _NO_GPU)
        ]
        # Triton marks errors "E1121 ..."; the table of models repeats them after "UNAVAILABLE: ".
        marked = [
            line
            for line in lines
            if (line[:1] == "E" and line[1:3].isdigit()) or line.startswith("Bad option")
        ]
        causes = [line for line in marked if "rror" in line.partition("]")[2]]
        # What the loader and the C library say has no mark at all.
        unmarked = [line for line in lines if not _MARKED.match(line)]
        found = causes or marked or unmarked[-1:] or ["nothing in its log says why"]
        best = found[-1 if last else 0]
        best = self._serving.with_repository_paths(best.partition("] ")[2] or best)
        return f"{best} (log: {self.log_path})"

    def end(self) -> str:
        """Return how a server that has ended did so: its exit code, and the signal's name."""
        code = self.poll()
        if code is None or code >= 0:
            return f"exit {code}"
        return f"exit {code}, {signal.Signals(-code).name}"

    def _log_lines(self) -> list[str]:
        """Return the lines since Triton's last start."""
        text = self.log_path.read_bytes()[self._log_start :]
        return text.decode("utf-8", errors="replace").splitlines()

    def poll(self) -> int | None:
        """Return the exit code, or None while the server runs."""
        return self._process.poll() if self._process else None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the server ends and return its exit code; None if `timeout` comes first."""
        try:
            return self._process.wait(timeout) if self._process else None
        except subprocess.TimeoutExpired:
            return None

    def stop(self, grace: float = _GRACE) -> None:
        """Stop the server and its backend processes; calling it twice does no harm."""
        self._end_process(grace)
        self._serving.close()
        self._shared_memory.close()

    def _end_process(self, grace: float) -> None:
        if self._process is None or self._group is None:
            return  # its number may be another program's by now
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        try:  # stubs outlive a server that had to be killed; they share its process group
            os.killpg(self._group, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._group = None
        self._process.wait()
        self._shared_memory.clear()

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
