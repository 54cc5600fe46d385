"""Servers that other people would run, started for a measurement."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..load.clients import Target
from ..models import build
from ..models.huggingface import text_folder
from ..models.sizes import SERVED, pair
from ..report.document import Report
from .embedding import OpenAiServer, Peer, PeerSearch, Process
from .environments import ENVIRONMENTS, Installed, ensure
from .server import free_port, server

if TYPE_CHECKING:
    from ..jobs.run import Run
    from ..jobs.subjects import Subject

_OFFLINE = {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
_PROGRAM = Path(__file__).with_name("sentence_transformers_program.py")
CLIP_AS_SERVICE = (
    "its server loads published CLIP weights alone, which it downloads by name and checks by MD5 "
    "(clip_server/model/pretrained_models.py): neither this architecture nor random weights can be "
    "given to it"
)


def has_fastapi(report: Report) -> bool:
    """Return whether FastAPI is installed; if not, say so in the report."""
    if importlib.util.find_spec("fastapi") and importlib.util.find_spec("uvicorn"):
        return True
    report.cannot("FastAPI around PyTorch", "not installed; `pip install fastapi uvicorn`")
    return False


@contextmanager
def fastapi(bundle: Path, vectors: Path, log: Path) -> Iterator[int]:
    """Run the FastAPI handler around PyTorch and yield its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.fastapi_app", bundle, vectors, port]
    with server(command, port, log):
        yield port


def peers(
    run: Run, report: Report, subject: Subject, corpus: build.Corpus, stack: ExitStack
) -> dict[str, Target]:
    """Start other projects' servers and return them as contenders of a text query.

    They have the architecture of PhoBERT-base, so they stand beside that model alone. What cannot
    be run is named in the report, with the reason.

    Args:
        run: the options.
        report: the report.
        subject: the model beside which they stand.
        corpus: what is searched.
        stack: keeps the servers until it is closed.
    """
    if not subject.name.startswith(SERVED):
        return {}
    if not run.peers:
        report.cannot(
            "infinity, sentence-transformers, clip-as-service", "not asked for; give --peers"
        )
        return {}
    folder = text_folder(build.build(pair(SERVED), run.work))
    starts = {"infinity": _infinity, "sentence-transformers": _sentence_transformers}
    report.cannot("clip-as-service 0.8.3", CLIP_AS_SERVICE)
    found: dict[str, Target] = {}
    for environment in ENVIRONMENTS:
        try:
            installed = ensure(environment, run.work / "environments")
            log = run.out / "logs" / f"{environment.name}.log"
            peer = starts[environment.name](installed, folder, log, stack)
        except RuntimeError as error:
            report.cannot(environment.name, str(error))
            continue
        report.note(f"{environment.name} {installed.version}, FP32, PhoBERT-base, our search.")
        found[environment.name] = PeerSearch(corpus.index, subject.repository, subject.texts, peer)
    return found


def _infinity(installed: Installed, folder: Path, log: Path, stack: ExitStack) -> Peer:
    port = free_port()
    command = [
        installed.python.with_name("infinity_emb"), "v2", "--model-id", folder, "--port", port,
        "--host", "127.0.0.1", "--engine", "torch", "--device", "cpu", "--no-bettertransformer",
        "--served-model-name", "phobert",
    ]  # fmt: skip
    stack.enter_context(server(command, port, log, environment=_OFFLINE))
    return OpenAiServer(port, "phobert")


def _sentence_transformers(installed: Installed, folder: Path, log: Path, stack: ExitStack) -> Peer:
    return Process((str(installed.python), str(_PROGRAM), str(folder)))
