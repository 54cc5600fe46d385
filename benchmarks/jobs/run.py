"""What every job gets: where to write, where models are kept, how long to measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vireo_client.bundle import Bundle

from ..contenders.turns import Plan
from ..models import build
from ..models.captions import Captions
from ..report.document import Report

SEED = 0


@dataclass(frozen=True)
class Run:
    """The options of one run."""

    out: Path
    """The folder of the report."""
    work: Path
    """The folder of models, indexes and environments, which later runs find there."""
    demo: Path
    """The folder that `make demo` wrote."""
    quick: bool = False
    peers: bool = False
    """Whether other projects' servers are measured, each in an environment of its own."""
    bulk: bool = False
    """Whether images are indexed through the same server meanwhile."""
    perf_analyzer: Path | None = None
    perf_libraries: Path | None = None

    @property
    def plan(self) -> Plan:
        """How long contenders take turns."""
        return Plan(3, 40, 3.0) if self.quick else Plan(5, 100, 6.0)

    @property
    def seconds(self) -> float:
        """The length of a load."""
        return 2.0 if self.quick else 5.0

    @property
    def rounds(self) -> int:
        """How often a load is repeated."""
        return self.plan.rounds

    @property
    def clients(self) -> tuple[int, ...]:
        """The numbers of clients of closed loops."""
        return (1, 4, 16) if self.quick else (1, 2, 4, 8, 16, 32, 64)

    @property
    def rows(self) -> int:
        """The size of the corpus that is searched."""
        return 100_000

    def report(self, job: str) -> Report:
        """Return a new report of a job."""
        settings = {"quick": self.quick, "device": "cpu", "seed": SEED, "rounds": self.rounds}
        return Report(job, self.out, settings)

    def captions(self) -> Captions:
        """Return the captions that are asked."""
        return build.captions(self.work)


@dataclass(frozen=True)
class Demo:
    """The demo's model."""

    folder: Path

    @property
    def bundle(self) -> Bundle:
        """What training wrote."""
        return Bundle(self.folder / "bundle")

    @property
    def repository(self) -> Bundle:
        """What export wrote, a bundle too."""
        return Bundle(self.folder / "model_repository")


def demo_of(run: Run, report: Report) -> Demo | None:
    """Return the demo's model, or say in the report that there is none."""
    if (run.demo / "model_repository").is_dir():
        return Demo(run.demo)
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
