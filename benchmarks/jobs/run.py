"""What every job gets: where to write, where models are kept, how long to measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..contenders.turns import Plan
from ..models import build
from ..models.captions import Captions
from ..models.sizes import PAIRS, SERVED
from ..report.document import Report

SEED = 0


@dataclass(frozen=True)
class Effort:
    """How long and how much is measured."""

    plan: Plan
    """How long contenders take turns."""
    seconds: float
    """The length of a load."""
    clients: tuple[int, ...]
    """The numbers of clients of closed loops."""
    batches: tuple[int, ...]
    """The sizes of batches in process."""
    pairs: tuple[str, ...]
    """The towers that are measured, by the names of `models.sizes`."""
    rows: int = 100_000
    """The size of the corpus that is searched."""


FULL = Effort(
    Plan(4, 100, 1.5),
    3.0,
    (1, 2, 4, 8, 16, 32, 64),
    (1, 4, 16, 32),
    tuple(pair.name for pair in PAIRS),
)
QUICK = Effort(Plan(3, 40, 1.5), 1.5, (1, 4, 16), (1, 16, 32), (SERVED, "mobilenet"))


@dataclass(frozen=True)
class Run:
    """The options of one run."""

    out: Path
    """The folder of the report."""
    work: Path
    """The folder of models, indexes and environments, which later runs find there."""
    demo: Path
    """The folder that `make demo` wrote."""
    effort: Effort = FULL
    peers: bool = False
    """Whether other projects' servers are measured, each in an environment of its own."""
    bulk: bool = False
    """Whether images are indexed through the same server meanwhile."""
    device: str = "cpu"
    perf_analyzer: Path | None = None
    perf_libraries: Path | None = None

    @property
    def plan(self) -> Plan:
        """How long contenders take turns."""
        return self.effort.plan

    @property
    def rounds(self) -> int:
        """How often a load is repeated."""
        return self.effort.plan.rounds

    @property
    def quick(self) -> bool:
        """Whether less than everything is measured."""
        return self.effort != FULL

    def report(self, job: str) -> Report:
        """Return a new report of a job."""
        settings = {"quick": self.quick, "device": self.device, "seed": SEED}
        settings |= {"rounds": self.rounds, "bulk indexing meanwhile": self.bulk}
        return Report(job, self.out, settings)

    def captions(self) -> Captions:
        """Return the captions that are asked."""
        return build.captions(self.work)


def demo_of(run: Run, report: Report) -> Path | None:
    """Return the folder of the demo's model, or say in the report that there is none."""
    if (run.demo / "model_repository").is_dir():
        return run.demo
    report.cannot("the demo's model", f"{run.demo} holds none; run `make demo` first")
    return None


@contextmanager
def serving(repository: Path, log: Path) -> Iterator[str]:
    """Run Triton over a repository and yield its gRPC address."""
    from vireo_serving.server.ports import Ports
    from vireo_serving.server.server import TritonServer

    log.parent.mkdir(parents=True, exist_ok=True)
    with TritonServer(repository, ports=Ports(0, 0, 0), log=log) as server:
        yield server.url
