"""`reload`: new versions published under clients that never pause."""

from __future__ import annotations

from ..report.document import Report
from ..report.measurement import Measurement, rate
from . import scripts
from .run import Run, demo_of


def run(run: Run) -> Report:
    """Measure and return the report."""
    report = run.report("reload")
    demo = demo_of(run, report)
    if demo is None:
        return report
    output = run.out / "scripts" / "reload.json"
    seconds = 12 if run.quick else 60
    repeats = [scripts.run("reload", output, "--run", demo, "--seconds", seconds) for _ in range(2)]
    rows = []
    for when in ("with_reloads", "without_reloads"):
        name = when.replace("_", " ")
        found = [repeat[when] for repeat in repeats]
        rates = report.add(
            f"reload/{name}/requests a second",
            rate([each["requests_per_second"] for each in found]),
        )
        slowest = tuple(each["latency_ms"]["p99"] for each in found)
        p99 = report.add(f"reload/{name}/p99", Measurement("ms", "lower", slowest))
        failed = sum(each["failed"] for each in found)
        asked = sum(each["requests"] for each in found)
        rows.append([name, f"{rates.value:.0f}", f"{p99.value:.1f}", f"{failed} of {asked:,}"])
    switches = tuple(repeat["switch_seconds"]["p50"] for repeat in repeats)
    switch = report.add("reload/switch", Measurement("s", "lower", switches))
    report.ratio(
        "reload: requests a second with reloads over without",
        "reload/with reloads/requests a second",
        "reload/without reloads/requests a second",
    )
    report.table("Eight clients", ["", "requests/s", "p99, ms", "failed"], rows)
    published = sum(repeat["reloads"] for repeat in repeats)
    report.note(f"{published} reloads; a switch took {switch.value:.2f} s.")
    return report
