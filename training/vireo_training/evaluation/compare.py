"""Several runs' reports side by side."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vireo_client.errors import DataError

from .metrics import WAYS
from .plots import plot_comparison
from .report import REPORT_FILE, REPORT_KIND, REPORT_VERSION, write_files
from .report_tables import TITLES, comparison_head, comparison_rows, markdown_table

COMPARISON_FILE = "comparison.md"
PLOT_FILE = "comparison.png"
EVALUATION_FOLDER = "evaluation"


def find_report(run: Path) -> Path:
    """Find a run's report: the file itself, or in the folder, or in its folder `evaluation`.

    Raises:
        DataError: there is none.
    """
    if run.is_file():
        return run
    # A run folder may hold a report of another kind; files in `evaluation` are ours.
    places = (run / EVALUATION_FOLDER / REPORT_FILE, run / REPORT_FILE)
    for path in places:
        if path.is_file():
            return path
    raise DataError(
        f"{run}: no {REPORT_FILE} there or in {EVALUATION_FOLDER}/; write it with "
        f"`vireo evaluate BUNDLE --data DATA --out {shlex.quote(str(run / EVALUATION_FOLDER))}`"
    )


def read_report(path: Path) -> dict[str, Any]:
    """Read a report of `vireo evaluate --out`.

    Raises:
        DataError: the file is no such report, of another version, or damaged.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if not isinstance(raw, dict) or raw.get("kind") != REPORT_KIND:
        raise DataError(f"{path}: is no report of `vireo evaluate --out`")
    if raw.get("report_version") != REPORT_VERSION:
        raise DataError(
            f"{path}: report version {raw.get('report_version')!r}, but this vireo reads "
            f"{REPORT_VERSION}; evaluate again"
        )
    try:
        for way in WAYS:  # all that a table needs, so that a damaged report is named here
            comparison_rows({"": raw}, way)
        _ = [raw[key] for key in ("bundle", "data", "split", "data_id", "pictures")]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: damaged ({type(error).__name__}: {error}); evaluate again"
        ) from None
    return raw


def read_runs(runs: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Read the reports of all runs, by names that tell them apart.

    Raises:
        DataError: a run has no usable report, or is given twice.
    """
    paths = [find_report(run) for run in runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError("a run is given twice; every run can stand in the table once")
    return dict(zip(_names(runs), (read_report(path) for path in paths), strict=True))


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that differ from each other."""
    parts = [run.resolve().parts for run in runs]
    for length in range(1, max(len(p) for p in parts) + 1):
        names = [str(Path(*p[-length:])) for p in parts]
        if len(set(names)) == len(names):
            break
    return names


def differences(reports: dict[str, dict[str, Any]]) -> list[str]:
    """Return reasons why the runs' metrics cannot be compared, a line each."""
    tests = {
        name: f"{r['data']} ({r['split']}, {r['pictures']} images, data {r['data_id']})"
        for name, r in reports.items()
    }
    if len({report["data_id"] for report in reports.values()}) == 1:
        older = [name for name, report in reports.items() if "shared_captions" not in report]
        if older and any(report.get("shared_captions") for report in reports.values()):
            return [
                f"{', '.join(older)}: measured by an older vireo, which counted captions that "
                "several images share as mistakes: do not compare its metrics; evaluate again"
            ]
        return []
    return [
        "the runs were not measured on the same images and captions: do not compare their metrics",
        *(f"{name}: {test}" for name, test in tests.items()),
    ]


def comparison_markdown(reports: dict[str, dict[str, Any]]) -> str:
    """Return both directions' tables, with a warning above where the tests differ."""
    out = ["# Comparison"]
    if lines := differences(reports):
        out += ["", *(f"- {line}" for line in lines)]
    for way in WAYS:
        table = markdown_table(comparison_head(), comparison_rows(reports, way))
        out += ["", f"## {TITLES[way]}", "", table]
    return "\n".join(out) + "\n"


def write_comparison(out: Path, reports: dict[str, dict[str, Any]]) -> None:
    """Write `comparison.md` and `comparison.png`.

    Raises:
        DataError: the folder cannot be written to.
        MissingExtraError: matplotlib is not installed.
    """
    text = comparison_markdown(reports) + f"\n![comparison]({PLOT_FILE})\n"
    write_files(
        out,
        {
            COMPARISON_FILE: lambda path: _write(path, text),
            PLOT_FILE: lambda path: plot_comparison(reports, path),
        },
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
