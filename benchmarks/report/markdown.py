"""`report.md`: a report that is read in two minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .document import Report

FILE = "report.md"
WIDE = 0.15
"""The spread of repeats from which on a measurement is named as unsteady."""


def write_markdown(report: Report) -> Path:
    """Write `report.md` beside `report.json` and return its path."""
    path = report.folder / FILE
    path.write_text(markdown(report), encoding="utf-8")
    return path


def markdown(report: Report) -> str:
    """Return a report as Markdown: ratios first, then the tables and plots of each job."""
    lines = [f"# Benchmarks: {', '.join(report.jobs)}", "", *_provenance(report), ""]
    if report.ratios:
        rows = [[name, f"{value:.2f}"] for name, value in report.ratios.items()]
        lines += ["## Ratios", "", *table(["ratio", "times"], rows), ""]
    for section in report.sections:
        if not (section["tables"] or section["plots"] or section["notes"]):
            continue
        lines += [f"## {section['title'].capitalize()}", ""]
        for found in section["tables"]:
            lines += [f"{found['title']}:", "", *table(found["head"], found["rows"]), ""]
        for plot in section["plots"]:
            lines += [f"![{plot['title']}]({plot['file']})", ""]
        for note in section["notes"]:
            lines += [note, ""]
    lines += _not_run(report)
    lines += _unsteady(report)
    return "\n".join(lines).rstrip() + "\n"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def latency_cells(samples: dict[str, float]) -> list[str]:
    """Return p50, p95 and p99 as cells."""
    return [f"{samples[key]:.2f}" for key in ("p50", "p95", "p99")]


def _provenance(report: Report) -> list[str]:
    machine: dict[str, Any] = report.provenance["machine"]
    versions: dict[str, str] = report.provenance["software"]["versions"]
    commit: dict[str, Any] = report.provenance["commit"]
    gpu = f", {', '.join(machine['gpu'])}" if machine["gpu"] else ", no GPU"
    shown = [f"{n} {versions[n]}" for n in ("python", "onnxruntime", "torch") if n in versions]
    changed = " with changes" if commit.get("changed") else ""
    name = f", commit {commit['name'][:10]}{changed}" if commit else ""
    settings = ", ".join(f"{key} {value}" for key, value in report.settings.items())
    return [
        f"{report.created}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB{gpu}, load before the start {machine['load_before']}; "
        f"{', '.join(shown)}{name}; {settings}."
    ]


def _not_run(report: Report) -> list[str]:
    if not report.not_run:
        return []
    lines = [f"- {what}: {why}" for what, why in report.not_run.items()]
    return ["## Not run", "", *lines, ""]


def _unsteady(report: Report) -> list[str]:
    wide = {n: m for n, m in report.measurements.items() if m.spread > WIDE}
    single = sum(len(m.repeats) < 2 for m in report.measurements.values())
    lines = ["## How steady", ""]
    if wide:
        lines += [f"Repeats lay more than {WIDE:.0%} apart, from the least to the largest:", ""]
        rows = [[n, f"{m.value:.4g} {m.unit}", f"{m.spread:.0%}"] for n, m in wide.items()]
        lines += [*table(["measurement", "median", "spread"], rows), ""]
    else:
        lines += [f"All repeats lay within {WIDE:.0%} of each other.", ""]
    if single:
        lines += [f"{single} measurements were taken once: their spread is not known.", ""]
    return lines
