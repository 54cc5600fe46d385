"""Shared parts of the benchmarks: the machine's name, percentiles, result files, tables, options.

Scripts import from here and from the other plain modules of this folder, never from each other; the
package takes the checkout, the folder of real data and the processor's name from here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from vireo_client import environment

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
RESULTS = ROOT / "benchmarks" / "results"
"""The folder of the committed results, a JSON file a script."""
DEMO = Path("runs/demo")
"""The folder that `make demo` writes."""


def cpu_name() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Return the machine's description. A figure means nothing without it."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "gpu": None,
        "python": platform.python_version(),
    }


def percentiles(seconds: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Return the 50th and the 99th percentile in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1e3, [50, 99])
    return {"p50": round(float(p50), digits), "p99": round(float(p99), digits)}


def option_parser(doc: str, result_file: str) -> argparse.ArgumentParser:
    """Return a parser with the option that every script has, `--output`.

    Args:
        doc: the script's docstring; its first line describes the script.
        result_file: the name of the script's file in `RESULTS`, the default of `--output`.
    """
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=RESULTS / result_file, help="the result file to write"
    )
    return parser


def data_folder() -> Path:
    """Return the folder of real data: `VIREO_DATA`, else `../shared/data` beside the checkout."""
    return environment.data_folder() or ROOT.parent / "shared" / "data"


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write a result file: indented JSON with a newline at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def print_heading(report: dict[str, Any], *more: str) -> None:
    """Print the machine of a report in one line, with further facts behind it."""
    computer = report["machine"]
    facts = [f"{computer['cpu']}, {computer['cores']} cores", *more]
    Console().print("; ".join(facts))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print a table on the terminal."""
    table = Table(*head, title=title or None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
