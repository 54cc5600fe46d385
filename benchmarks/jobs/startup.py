"""`startup`: from nothing to the first answer, and the memory that it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

from ..peers.local import has_fastapi
from ..peers.server import free_port, server
from ..report.document import Report
from ..report.measurement import Measurement
from ..support import ROOT
from .run import Run, serving
from .subjects import Subject, subjects

IMPORT = "import vireo_client"
VIREO = """
from vireo_client import SearchClient
client = SearchClient(words[0], model=words[1], triton=words[2] or None)
client.search(words[3], k=10)
"""
PYTORCH = """
from pathlib import Path
from benchmarks.contenders.pytorch import open_search
open_search(Path(words[0]), Path(words[1]))(words[3])
"""
_RUNNER = """
import json, sys, time
started = time.perf_counter()
words = sys.argv[1:]
{code}
seconds = time.perf_counter() - started
import psutil
print(json.dumps([seconds, psutil.Process().memory_info().rss / 1e6]))
"""


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("startup")
    rows = [_row(report, "import vireo_client", [_fresh(IMPORT) for _ in range(_repeats(run))])]
    for subject in subjects(run, report):
        rows += to_first_answer(run, report, subject)
        rows += servers(run, report, subject)
    head = ["", "seconds", "spread", "memory, MB"]
    report.table("Start-up, each in a fresh process", head, rows)
    return report


def _repeats(run: Run) -> int:
    return 3 if run.quick else 5


def to_first_answer(run: Run, report: Report, subject: Subject) -> list[list[str]]:
    """Measure from the first import to ten hits: in process, through Triton, and with PyTorch."""
    corpus = subject.corpus(run.work)
    index, repository, text = corpus.index, subject.repository, subject.texts[0]
    found: dict[str, list[tuple[float, float]]] = {}
    with serving(repository, run.out / "logs" / "startup.log") as url:
        ways = {
            "in process": (VIREO, (index, repository, "", text)),
            "triton": (VIREO, (index, repository, url, text)),
            "pytorch, sklearn": (PYTORCH, (subject.bundle, corpus.vectors, "", text)),
        }
        for _ in range(_repeats(run)):
            for name, (code, words) in ways.items():
                found.setdefault(name, []).append(_fresh(code, *words))
    rows = [
        _row(report, f"first answer, {subject.name}/{name}", values)
        for name, values in found.items()
    ]
    prefix = f"startup/first answer, {subject.name}"
    report.ratio(
        f"first answer, {subject.name}: pytorch, sklearn's time over in process's",
        f"{prefix}/pytorch, sklearn",
        f"{prefix}/in process",
    )
    return rows


def servers(run: Run, report: Report, subject: Subject) -> list[list[str]]:
    """Measure a server from its start until it is ready: Triton, and FastAPI around PyTorch."""
    corpus = subject.corpus(run.work)
    found: dict[str, list[tuple[float, float]]] = {"triton": []}
    if has_fastapi(report):
        found["fastapi around pytorch"] = []
    for _ in range(_repeats(run)):
        started = time.perf_counter()
        with TritonServer(subject.repository, ports=Ports(0, 0, 0)):
            seconds = time.perf_counter() - started
            found["triton"].append((seconds, _memory_of_children()))
        if "fastapi around pytorch" not in found:
            continue
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.peers.fastapi_app", subject.bundle]
        log = run.out / "logs" / "startup-fastapi.log"
        started = time.perf_counter()
        with server([*command, corpus.vectors, port], port, log):
            seconds = time.perf_counter() - started
            found["fastapi around pytorch"].append((seconds, _memory_of_children()))
    return [
        _row(report, f"server ready, {subject.name}/{name}", values)
        for name, values in found.items()
    ]


def _fresh(code: str, *words: object) -> tuple[float, float]:
    """Return seconds and resident megabytes of code in a new interpreter, without its own start."""
    script = _RUNNER.format(code=code)
    command = [sys.executable, "-c", script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, megabytes = json.loads(done.stdout.strip().splitlines()[-1])
    return seconds, megabytes


def _memory_of_children() -> float:
    """Return the megabytes that this process's children use; shared pages are shared out."""
    children = psutil.Process().children(recursive=True)
    return sum(child.memory_full_info().pss for child in children) / 1e6


def _row(report: Report, name: str, values: list[tuple[float, float]]) -> list[str]:
    seconds, megabytes = zip(*values, strict=True)
    measured = report.add(f"startup/{name}", Measurement("s", "lower", seconds))
    memory = report.add(f"memory/{name}", Measurement("MB", "lower", megabytes))
    return [name, f"{measured.value:.2f}", f"{measured.spread:.0%}", f"{memory.value:.0f}"]
