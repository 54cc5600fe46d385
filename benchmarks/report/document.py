"""The report of a run: `report.json`, which everything else is made from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..host.provenance import provenance
from .measurement import Better, Measurement, rounded

FILE = "report.json"
SCHEMA = 1
"""The format's number; another one is refused."""


class Report:
    """Measurements, ratios between them, tables and plots of one or several jobs.

    Names of measurements are paths, from the general to the particular, as in
    `text query/phobert-base int8/triton`. They are the same in every run, so that reports can be
    compared.

    Args:
        job: the job's name.
        folder: the folder to write to, plots included.
        settings: whatever the run was asked for: `quick`, `device`, seeds.
    """

    def __init__(self, job: str, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.jobs = [job]
        self.created = time.strftime("%Y-%m-%d %H:%M:%S")
        self.settings = settings
        self.provenance: dict[str, Any] = provenance()
        self.measurements: dict[str, Measurement] = {}
        self.ratios: dict[str, float] = {}
        """Each comparison by name: how many times the first value is the second."""
        self.ratios_of: dict[str, dict[str, str]] = {}
        """The two measurements of each ratio, and whether a lower or a higher one is better."""
        self.sections: list[dict[str, Any]] = [
            {"title": job, "tables": [], "plots": [], "notes": []}
        ]
        self.not_run: dict[str, str] = {}
        """What could not be run, with the reason."""

    def add(self, name: str, measurement: Measurement) -> Measurement:
        """Add a measurement under a name that is new, and return it.

        Raises:
            ValueError: the name is taken.
        """
        if name in self.measurements:
            raise ValueError(f"{name!r} was measured twice; each name may be used once")
        self.measurements[name] = measurement
        return measurement

    def ratio(self, name: str, over: str, under: str, better: Better = "higher") -> float:
        """Add how many times the value of `over` is that of `under`, and return it.

        Raises:
            KeyError: one of them was not measured.
        """
        value = self.measurements[over].value / self.measurements[under].value
        self.ratios[name] = rounded(value)
        self.ratios_of[name] = {"over": over, "under": under, "better": better}
        return value

    def table(self, title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table to the section of the job."""
        table = {"title": title, "head": list(head), "rows": [list(row) for row in rows]}
        self.sections[-1]["tables"].append(table)

    def plot(self, title: str, file: Path) -> None:
        """Add a plot, a file of the report's folder, to the section of the job."""
        self.sections[-1]["plots"].append({"title": title, "file": file.name})

    def note(self, text: str) -> None:
        """Add a sentence to the section of the job."""
        self.sections[-1]["notes"].append(text)

    def cannot(self, what: str, why: str) -> None:
        """Say that something could not be run, and why."""
        self.not_run[what] = why

    def take(self, other: Report) -> None:
        """Take over what another report of the same machine holds.

        Raises:
            ValueError: both have a measurement of the same name.
        """
        for name, measurement in other.measurements.items():
            self.add(name, measurement)
        self.jobs += other.jobs
        self.ratios |= other.ratios
        self.ratios_of |= other.ratios_of
        self.sections += other.sections
        self.not_run |= other.not_run

    def write(self) -> Path:
        """Write `report.json` and return its path."""
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = {
            "schema": SCHEMA,
            "jobs": self.jobs,
            "created": self.created,
            **self.provenance,
            "settings": self.settings,
            "ratios": self.ratios,
            "measurements": {name: m.to_json() for name, m in self.measurements.items()},
            "ratios_of": self.ratios_of,
            "sections": self.sections,
            "not_run": self.not_run,
        }
        path = self.folder / FILE
        text = json.dumps(saved, indent=1, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Report:
        """Read a report back, from its file or its folder.

        Raises:
            FileNotFoundError: there is no report.
            ValueError: the file is no report, or one of another format.
        """
        file = path / FILE if path.is_dir() else path
        saved = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(saved, dict) or saved.get("schema") != SCHEMA:
            raise ValueError(f"{file}: not a benchmark report of format {SCHEMA}; measure again")
        report = cls.__new__(cls)
        report.folder = file.parent
        report.jobs, report.created, report.settings = (
            saved[key] for key in ("jobs", "created", "settings")
        )
        report.provenance = {key: saved[key] for key in ("machine", "software", "commit")}
        report.measurements = {
            name: Measurement.from_json(value) for name, value in saved["measurements"].items()
        }
        report.ratios, report.ratios_of = saved["ratios"], saved["ratios_of"]
        report.sections, report.not_run = saved["sections"], saved["not_run"]
        return report
