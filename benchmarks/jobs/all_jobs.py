"""The jobs by name, and all of them in one report."""

from __future__ import annotations

import importlib
import multiprocessing
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from ..report.document import Report
from ..report.markdown import write_markdown
from .run import Run

JOBS = ("latency", "throughput", "text", "index", "indexing", "startup", "reload")
ALL = "all"
ON_GPU = ("latency", "index")
"""The jobs that have a half for `--device cuda`; `latency` has the towers' batches."""


def about(job: str) -> str:
    """Return the first line of a job's module, for the command's help."""
    if job == ALL:
        return "Run all jobs, each in a process of its own, and write one report."
    doc = importlib.import_module(f".{job}", __package__).__doc__ or ""
    line = doc.partition("\n")[0].partition(": ")[2]
    return line[0].upper() + line[1:]


def run_job(job: str, run: Run) -> Report:
    """Run one job, or all, and write its report."""
    run.out.mkdir(parents=True, exist_ok=True)
    run.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    report = _all(run) if job == ALL else _one(job, run)
    report.settings["minutes"] = round((time.monotonic() - started) / 60, 1)
    report.write()
    write_markdown(report)
    return report


def _one(job: str, run: Run) -> Report:
    package = __package__
    if run.device != "cpu":
        if job not in ON_GPU:
            raise ValueError(f"{job} is not measured on a GPU; {' and '.join(ON_GPU)} are")
        package = "benchmarks.gpu"
    report: Report = importlib.import_module(f".{job}", package).run(run)
    return report


def _all(run: Run) -> Report:
    """Run every job; one that fails is named in the report, and the others go on."""
    report = run.report(ALL)
    context = multiprocessing.get_context("spawn")  # nothing of one job is left in the next
    for job in JOBS if run.device == "cpu" else ON_GPU:
        part = replace(run, out=run.out / "parts" / job)
        started = time.monotonic()
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                pool.submit(_write, job, part).result()
            except Exception as error:
                traceback.print_exc()
                report.cannot(job, f"failed: {type(error).__name__}: {error}"[:300])
                continue
        print(f"{job}: {time.monotonic() - started:.0f} s", flush=True)
        found = Report.read(part.out)
        for section in found.sections:
            for plot in section["plots"]:
                (part.out / plot["file"]).replace(run.out / plot["file"])
        report.take(found)
    report.sections = report.sections[1:]  # that of `all` itself is empty
    return report


def _write(job: str, run: Run) -> None:
    run_job(job, run)
