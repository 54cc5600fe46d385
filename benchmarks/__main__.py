"""Measure Vireo: `python -m benchmarks COMMAND --out DIR`, from the checkout's root."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.jobs import all_jobs
from benchmarks.jobs.run import FULL, QUICK, Run
from benchmarks.report.compare import compare as compare_reports
from benchmarks.report.document import Report

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Out = Annotated[
    Path, typer.Option("--out", help="the folder to write report.json, report.md and plots to")
]
Work = Annotated[
    Path,
    typer.Option("--work", help="models, indexes and environments, which later runs find there"),
]
DemoFolder = Annotated[Path, typer.Option("--demo", help="the folder that `make demo` wrote")]
Quick = Annotated[bool, typer.Option("--quick", help="fewer models, loads and repeats")]
Peers = Annotated[
    bool, typer.Option("--peers", help="other projects' servers, each in a new environment")
]
Bulk = Annotated[bool, typer.Option("--bulk", help="index images through the server meanwhile")]
Device = Annotated[str, typer.Option("--device", help="cpu, or cuda: what a GPU runs")]
PerfAnalyzer = Annotated[
    Path | None,
    typer.Option("--perf-analyzer", help="NVIDIA's perf_analyzer; its figures stand beside ours"),
]
PerfLibraries = Annotated[
    Path | None,
    typer.Option(
        "--perf-libraries",
        help="a newer C library and loader for perf_analyzer, as `dpkg -x` unpacks them",
    ),
]


def _add(job: str) -> None:
    def command(
        out: Out,
        work: Work = Path("runs/benchmarks"),
        demo: DemoFolder = Path("runs/demo"),
        quick: Quick = False,
        peers: Peers = False,
        bulk: Bulk = False,
        device: Device = "cpu",
        perf_analyzer: PerfAnalyzer = None,
        perf_libraries: PerfLibraries = None,
    ) -> None:
        run = Run(
            out.resolve(), work.resolve(), demo.resolve(), QUICK if quick else FULL, peers, bulk,
            device, perf_analyzer, perf_libraries,
        )  # fmt: skip
        report = all_jobs.run_job(job, run)
        Console().print(f"{out / 'report.md'}: {len(report.measurements)} measurements")
        if job == all_jobs.ALL and report.not_run:
            for what, why in report.not_run.items():
                Console().print(f"not run: {what}: {why}")

    command.__doc__ = all_jobs.about(job)
    app.command(job)(command)


for _job in (*all_jobs.JOBS, all_jobs.ALL):
    _add(_job)


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(help="a report, or its folder")],
    new: Annotated[Path, typer.Argument(help="a later one")],
) -> None:
    """Say what got slower beyond the noise between repeats; the exit status is 1 then."""
    found = compare_reports(Report.read(old), Report.read(new))
    what = "measurements" if found.same_machine else "ratios: the machines differ"
    table = Table("", "old", "new", "worse by", "noise", title=f"Changes of {what}")
    changed = [change for change in found.changes if change.verdict != "same"]
    for change in sorted(changed, key=lambda change: -change.cost):
        cells = (f"{change.old:.4g}", f"{change.new:.4g}", f"{change.cost:+.0%}")
        table.add_row(change.name, *cells, f"{change.noise:.0%}")
    console = Console()
    console.print(table)
    slower = len(found.slower)
    console.print(f"{slower} slower, {len(changed) - slower} faster, of {len(found.changes)}")
    for name in found.gone:
        console.print(f"only in the old report: {name}")
    if slower:
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(app())
