"""`perf_analyzer`'s figures beside ours, and its inputs in any case."""

from __future__ import annotations

import statistics

from ..load.perf_analyzer import PerfAnalyzer, write_inputs
from ..report.document import Report
from ..report.measurement import Measurement, rate
from .run import Run
from .subjects import Subject

COUNTS = (1, 4, 16)


def beside_perf_analyzer(
    run: Run, report: Report, subject: Subject, texts: list[str], images: list[bytes], url: str
) -> None:
    """Write the inputs, and measure `embed_text` where perf_analyzer was given."""
    folder = run.out / "perf_analyzer"
    stem = subject.name.replace(" ", "-")
    inputs = write_inputs(folder / f"{stem}-texts.json", "text", texts)
    write_inputs(folder / f"{stem}-images.json", "image", images)
    if run.perf_analyzer is None:
        report.cannot("perf_analyzer", "no --perf-analyzer was given; its inputs are written")
        return
    analyzer = PerfAnalyzer(run.perf_analyzer, run.perf_libraries)
    rows = []
    for clients in (count for count in COUNTS if count in run.effort.clients):
        output = folder / f"{stem}-{clients}.csv"
        try:
            found = [
                analyzer.measure(url, "embed_text", inputs, clients, run.effort.seconds, output)
                for _ in range(run.rounds)
            ]
        except (RuntimeError, OSError) as error:
            report.cannot(f"perf_analyzer, {subject.name}", str(error))
            return
        prefix = f"perf_analyzer/embed_text, {subject.name}/{clients} clients"
        rates = report.add(prefix, rate([each["per_second"] for each in found]))
        medians = tuple(each["p50"] for each in found)
        p50 = report.add(f"{prefix}/p50", Measurement("ms", "lower", medians))
        p99 = statistics.median(each["p99"] for each in found)
        ours = report.measurements.get(
            f"throughput/embed_text, {subject.name}, 16 tokens/{clients} clients"
        )
        rows.append([
            str(clients), f"{rates.value:.0f}", f"{rates.spread:.0%}", f"{p50.value:.2f}",
            f"{p99:.2f}", "" if ours is None else f"{ours.value:.0f}",
        ])  # fmt: skip
    head = ["clients", "answers/s", "spread", "p50, ms", "p99", "our clients, answers/s"]
    report.table(f"perf_analyzer on `embed_text`, {subject.name}", head, rows)
