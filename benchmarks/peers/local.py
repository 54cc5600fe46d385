"""Servers that other people would run, started for a measurement."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..load.clients import Target
from ..models.build import Corpus
from ..report.document import Report
from .server import free_port, server

if TYPE_CHECKING:
    from ..jobs.run import Run
    from ..jobs.subjects import Subject


@contextmanager
def fastapi(bundle: Path, vectors: Path, log: Path) -> Iterator[int]:
    """Run the FastAPI handler around PyTorch and yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.fastapi_app", bundle, vectors, port]
    with server(command, port, log):
        yield port


def peers(
    run: Run, report: Report, subject: Subject, corpus: Corpus, stack: ExitStack
) -> dict[str, Target]:
    """Start other projects' servers and return them as contenders of a text query."""
    return {}
