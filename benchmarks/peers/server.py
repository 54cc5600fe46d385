"""Starts a server on a free port of this machine, and ends it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..support import ROOT

_START = 300.0
"""Seconds in which a server must be ready."""


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(
    command: Sequence[object],
    port: int,
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a server until the block ends, which begins when `/health` answers 200.

    Args:
        command: the command line.
        port: the port that it will listen on.
        log: the file for its output.
        environment: variables beside those of this process.

    Raises:
        RuntimeError: it ended or did not answer in time; the message holds its last line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, **(environment or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], cwd=ROOT, env=variables, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r:.80} ended: {_last_line(log)}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:  # URLError is one: nothing listens yet
            time.sleep(0.2)
    raise RuntimeError(f"{url} did not answer within {_START:.0f} s: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it printed nothing"
