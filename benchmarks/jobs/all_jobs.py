"""The jobs by name, and all of them in one report."""

from __future__ import annotations

import importlib

from ..report.document import Report
from ..report.markdown import write_markdown
from .run import Run

JOBS = ("latency",)
ALL = "all"


def about(job: str) -> str:
    """Return the first line of a job's module, for the command's help."""
    if job == ALL:
        return "Run all jobs, each in a process of its own, and write one report."
    doc = importlib.import_module(f".{job}", __package__).__doc__ or ""
    return doc.partition("\n")[0].partition(": ")[2].capitalize()


def run_job(job: str, run: Run) -> Report:
    """Run one job, or all, and write its report."""
    run.out.mkdir(parents=True, exist_ok=True)
    run.work.mkdir(parents=True, exist_ok=True)
    report: Report = importlib.import_module(f".{job}", __package__).run(run)
    report.write()
    write_markdown(report)
    return report
