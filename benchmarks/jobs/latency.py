"""`latency`: one text query beside what people would use instead, by stage, and under load."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
from vireo_client.repository import TEXT_MODEL, model_file

from ..contenders.ours import Search, StagedSearch, Tower
from ..contenders.pytorch import TorchSearch
from ..contenders.turns import Plan, in_turns
from ..load.clients import HttpTarget, Target, TritonTarget, json_bodies, text_requests
from ..load.processes import Clients
from ..load.statistics import Statistics
from ..models.build import Corpus
from ..peers import local
from ..report.document import Report
from ..report.markdown import latency_cells
from ..report.measurement import Measurement, latency, rounded
from ..report.plots import percentile_plot, stage_plot
from .bulk import indexing_meanwhile
from .limits import SHARE_HEAD, limits_of, share_row
from .run import SEED, Run, serving
from .subjects import Subject, subjects
from .throughput import facts_of
from .towers import latency_of_towers

SHARES = (0.3, 0.6, 0.8)
"""Loads of the open loop, as shares of what the closed loop with the most clients got."""
ASKED = "embed_text"
STAGES = ("segment", "tokenize", "transport", "queue", "compute", "search")


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("latency")
    captions = run.captions()
    report.note(f"Queries: {captions.source}; those of the demo's model are of its own scenes.")
    bars: dict[str, dict[str, float]] = {}
    for subject in subjects(run, report):
        with serving(subject.repository, run.out / "logs" / f"{subject.name}.log") as url:
            corpus = subject.corpus(run.work)
            queries(run, report, subject, corpus, url)
            bars |= stages(run, report, subject, corpus, url)
            loads(run, report, subject, url)
    plot = stage_plot(bars, "A text query by stage, means", run.out / "stages.svg")
    report.plot("A text query by stage", plot)
    limits = limits_of(run, report)
    rows = [share_row(limits, *median, batch=1) for median in latency_of_towers(run, report)]
    report.table("One row, beside the machine's limit", SHARE_HEAD, rows)
    return report


def queries(run: Run, report: Report, subject: Subject, corpus: Corpus, url: str) -> None:
    """Measure one query at a time, string in and ten hits out, with all contenders in turns."""
    ids = subject.ids()
    engine = model_file(subject.repository, TEXT_MODEL)
    contenders: dict[str, Target] = {
        "triton": Search(corpus.index, subject.repository, url, subject.texts),
        "in process": Search(corpus.index, subject.repository, None, subject.texts),
        "bare tower": Tower(engine, ids),
        "bare tower, plain session": Tower(engine, ids, plain=True),
        "pytorch eager, sklearn": TorchSearch(subject.bundle, corpus.vectors, subject.texts),
        "pytorch compiled, sklearn": TorchSearch(
            subject.bundle, corpus.vectors, subject.texts, compiled=True
        ),
    }
    with ExitStack() as stack:
        if local.has_fastapi(report):
            log = run.out / "logs" / "fastapi.log"
            port = stack.enter_context(local.fastapi(subject.bundle, corpus.vectors, log))
            contenders["fastapi around pytorch, sklearn"] = HttpTarget(
                "127.0.0.1", port, "/search", json_bodies("text", subject.texts)
            )
        contenders |= local.peers(run, report, subject, corpus, stack)
        turns = in_turns(contenders, run.plan)
    prefix = f"text query/{subject.name}"
    rows = []
    ours = report.add(f"{prefix}/triton", latency(turns["triton"].rounds))
    for name, found in turns.items():
        measured = ours
        if name != "triton":
            measured = report.add(f"{prefix}/{name}", latency(found.rounds))
            _ratio(report, subject.name, prefix, name)
        times = measured.value / ours.value
        rows.append([name, *latency_cells(measured.samples), f"{times:.2f}"])
    head = ["", "p50, ms", "p95", "p99", "p50, of Triton's"]
    report.table(f"One text query, {subject.name}, {subject.rows:,} images", head, rows)


def _ratio(report: Report, subject: str, prefix: str, name: str) -> None:
    """Add the ratio that says how we stand: over a limit, or how much faster than a contender."""
    if name == "in process" or name.startswith("bare tower"):
        what = f"text query, {subject}: triton's time over {name}'s"
        report.ratio(what, f"{prefix}/triton", f"{prefix}/{name}", better="lower")
    else:
        what = f"text query, {subject}: {name}'s time over triton's"
        report.ratio(what, f"{prefix}/{name}", f"{prefix}/triton")


def stages(
    run: Run, report: Report, subject: Subject, corpus: Corpus, url: str
) -> dict[str, dict[str, float]]:
    """Measure the stages of a query; return their means in milliseconds, a bar for each way.

    Queue and compute are Triton's own means of the same queries. Transport is the rest of the call
    to the server: writing, sending and reading, both ways.
    """
    bars = {}
    for way, address in (("triton", url), ("in process", None)):
        staged = StagedSearch(corpus.index, subject.repository, address, subject.texts)
        server: dict[str, dict[str, float]] = {}
        statistics = Statistics(url, (TEXT_MODEL,))
        # One long turn: the server counts the calls before it, too, which do not count here.
        plan = Plan(1, run.plan.calls * run.rounds, run.plan.seconds * run.rounds)
        with statistics.over(server):
            turns = in_turns({way: staged}, plan)[way]
        statistics.close()
        means = {
            name: float(np.mean([stage[name] for stage in turns.stages])) * 1e3
            for name in turns.stages[0]
        }
        embed = means.pop("embed")
        times = server[TEXT_MODEL]
        queue = times["queue_us"] / 1e3
        compute = (times["input_us"] + times["infer_us"] + times["output_us"]) / 1e3
        means |= (
            {"compute": embed}
            if address is None
            else {
                "transport": max(embed - queue - compute, 0.0),
                "queue": queue,
                "compute": compute,
            }
        )
        bar = {stage: means[stage] for stage in STAGES if stage in means}
        bars[f"{subject.name}, {way}"] = bar
        for stage, value in bar.items():
            name = f"stages/{subject.name}/{way}/{stage}"
            report.add(name, Measurement("ms", "lower", (rounded(value),)))
    rows = [[way, *(f"{bar.get(stage, 0.0):.3f}" for stage in STAGES)] for way, bar in bars.items()]
    report.table("A query by stage, means in ms", ["", *STAGES], rows)
    return bars


def loads(run: Run, report: Report, subject: Subject, url: str) -> None:
    """Measure `embed_text` under closed and open loops; the plot has a line for each load."""
    target = TritonTarget(url, text_requests(ASKED, subject.texts))
    prefix = f"embed_text/{subject.name}"
    lines, rows = {}, []
    statistics = Statistics(url, (TEXT_MODEL,))
    most = max(c for c in run.effort.clients if c <= 16)

    def record(name: str, measured: Measurement) -> None:
        report.add(f"{prefix}/{name}", measured)
        lines[name] = measured.samples
        facts = measured.facts
        offered = facts.get("offered_per_second", "")
        rows.append([
            name, *latency_cells(measured.samples), f"{measured.samples['max']:.1f}",
            str(offered), f"{facts['per_second']:.0f}", str(facts["failed"]),
            f"{facts['client_cores']:.2f}", f"{facts['server']['batch']:.1f}",
        ])  # fmt: skip

    with Clients(target, most) as clients, indexing_meanwhile(run, subject, url):
        best = 0.0
        for count in (c for c in run.effort.clients if c <= most):
            measured = []
            found: dict[str, dict[str, float]] = {}
            with statistics.over(found):
                measured = [clients.closed(count, run.effort.seconds) for _ in range(run.rounds)]
            rate = float(np.median([load.per_second for load in measured]))
            best = max(best, rate)
            facts = facts_of(measured) | {"server": found[TEXT_MODEL], "per_second": rounded(rate)}
            record(
                f"closed, {count} clients", latency([m.answers.seconds for m in measured], **facts)
            )
        for share in SHARES:
            found = {}
            with statistics.over(found):
                measured = [
                    clients.open(share * best, run.effort.seconds, SEED + 100 * n)
                    for n in range(run.rounds)
                ]
            rate = float(np.median([load.per_second for load in measured]))
            facts = facts_of(measured) | {"server": found[TEXT_MODEL], "per_second": rounded(rate)}
            facts["offered_per_second"] = rounded(share * best)
            record(
                f"open, {share:.0%} of the most",
                latency([m.answers.seconds for m in measured], **facts),
            )
    statistics.close()
    head = ["load", "p50, ms", "p95", "p99", "max", "offered/s", "answered/s", "failed",
            "clients' cores", "batch"]  # fmt: skip
    report.table(f"`embed_text`, {subject.name}", head, rows)
    file = run.out / f"latency-{subject.name.replace(' ', '-')}.svg"
    title = f"embed_text, {subject.name}: latency from the intended send time"
    report.plot(title, percentile_plot(lines, title, file))
