"""What a run of indexing did, and its report for a file."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..captions import Skip
from ..errors import DataError
from ..files import replacing_file

SUFFIXES = (".json", ".csv")


@dataclass
class IndexReport:
    """The outcome of a run of indexing."""

    added: int = 0
    unchanged: int = 0
    """Images that have the bytes they had, also those whose file has another time now."""
    captions: int = 0
    skipped: list[Skip] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    """Old and new path of images that were renamed or moved, and kept their embeddings."""
    removed: list[str] = field(default_factory=list)
    """Paths of images that left the index: their files are gone or are images no more, or the
    folder's `captions.jsonl` does not name them."""
    kept: dict[str, int] = field(default_factory=dict)
    """Empty folders whose images are gone but were kept, and how many: each may be a disk that is
    not mounted."""
    duplicates: list[list[str]] = field(default_factory=list)
    """Paths of images that have the same bytes, where that was asked for."""
    near_duplicates: list[list[str]] = field(default_factory=list)
    """Paths of images that look alike, likewise."""
    seconds: float = 0.0
    interrupted: bool = False

    def as_dict(self) -> dict[str, object]:
        """Return the report for JSON."""
        return asdict(self) | {
            "skipped": [{"path": skip.where, "reason": skip.reason} for skip in self.skipped]
        }


def check_report_file(path: Path) -> None:
    """Check that a report can be written, before any work is done.

    Raises:
        DataError: the name has another suffix than `SUFFIXES`, or its folder does not exist.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: a report is a .json or a .csv file; give it such a name")
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path}: its folder does not exist; make it, or choose another")


def write_report(report: IndexReport, path: Path) -> None:
    """Write a report as JSON, or as a CSV table with a row for each path.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    if path.suffix.lower() == ".csv":
        text = _table(report)
    else:
        text = json.dumps(report.as_dict(), ensure_ascii=False, indent=1) + "\n"
    with replacing_file(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _table(report: IndexReport) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("what", "path", "detail"))
    rows.writerows(("skipped", skip.where, skip.reason) for skip in report.skipped)
    rows.writerows(("moved", old, new) for old, new in report.moved)
    rows.writerows(("removed", path, "") for path in report.removed)
    rows.writerows(("kept", folder, count) for folder, count in report.kept.items())
    for what, groups in (
        ("duplicate", report.duplicates),
        ("near duplicate", report.near_duplicates),
    ):
        rows.writerows((what, path, group[0]) for group in groups for path in group[1:])
    return text.getvalue()
