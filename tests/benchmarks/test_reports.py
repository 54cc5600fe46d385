"""Reports: summaries, the format of the files, and two reports compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report.compare import compare
from benchmarks.report.document import Report
from benchmarks.report.markdown import write_markdown
from benchmarks.report.measurement import Measurement, latency, rate, summarise
from benchmarks.report.plots import percentile_plot, recall_plot, stage_plot, throughput_plot

ROOT = Path(__file__).resolve().parents[2]


def test_a_summary_has_percentiles_and_the_number_of_samples() -> None:
    summary = summarise(range(1, 102))
    assert summary == {
        "count": 101, "mean": 51, "p50": 51, "p90": 91, "p95": 96, "p99": 100, "min": 1, "max": 101,
    }  # fmt: skip


def test_nothing_measured_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        summarise([])


def test_a_latency_is_the_median_of_the_medians_of_its_repeats() -> None:
    measured = latency([[0.001, 0.002, 0.9], [0.003], [0.004]])
    assert measured.repeats == (2.0, 3.0, 4.0)
    assert measured.value == 3.0
    assert measured.spread == pytest.approx(2 / 3)
    assert measured.samples["max"] == 900


def report(folder: Path, **values: tuple[float, ...]) -> Report:
    made = Report("latency", folder, {"quick": True})
    for name, repeats in values.items():
        kind = rate(repeats) if name.startswith("rate") else Measurement("ms", "lower", repeats)
        made.add(name, kind)
    return made


def test_a_report_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = report(tmp_path, ours=(1.0, 1.1), theirs=(5.0, 5.2))
    made.ratio("theirs over ours", "theirs", "ours")
    made.table("A table", ["a", "b"], [["1", "2"]])
    made.note("A note.")
    made.cannot("a peer", "its package does not install here")
    saved = json.loads(made.write().read_text(encoding="utf-8"))
    assert saved["ratios"] == {"theirs over ours": 4.8571}
    assert {"machine", "software", "commit", "settings"} <= set(saved)
    assert saved["machine"]["cpu"]
    assert saved["measurements"]["ours"]["value"] == 1.05
    again = Report.read(tmp_path)
    assert again.measurements == made.measurements
    again.write()
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == saved


def test_markdown_names_ratios_tables_and_what_could_not_run(tmp_path: Path) -> None:
    made = report(tmp_path, steady=(1.0, 1.0), unsteady=(1.0, 2.0), once=(1.0,))
    made.ratio("unsteady over steady", "unsteady", "steady")
    made.table("A table", ["a", "b"], [["1", "2"]])
    made.cannot("a peer", "its package does not install here")
    text = write_markdown(made).read_text(encoding="utf-8")
    for part in (
        "| unsteady over steady | 1.50 |", "| a | b |\n| --- | --- |\n| 1 | 2 |",
        "- a peer: its package does not install here", "| unsteady | 1.5 ms | 67% |",
        "1 measurements were taken once",
    ):  # fmt: skip
        assert part in text
    assert "| steady | 1" not in text


def test_a_name_is_used_once(tmp_path: Path) -> None:
    made = report(tmp_path, ours=(1.0,))
    with pytest.raises(ValueError, match="measured twice"):
        made.add("ours", rate([1.0]))


def test_another_file_is_no_report(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"measured": {}}')
    with pytest.raises(ValueError, match="not a benchmark report"):
        Report.read(tmp_path)


def test_slower_is_what_changed_beyond_the_noise(tmp_path: Path) -> None:
    old = report(tmp_path, a=(10, 10.2, 10.4), b=(10, 12, 14), rate=(100, 101), once=(10.0,))
    new = report(tmp_path, a=(12, 12.1, 12.2), b=(13, 13, 13), rate=(80, 81), once=(11.0,))
    found = compare(old, new)
    assert {change.name: change.verdict for change in found.changes} == {
        "a": "slower", "b": "same", "rate": "slower", "once": "same",
    }  # fmt: skip
    assert [change.name for change in found.slower] == ["rate", "a"]
    back = compare(new, old)
    assert [change.name for change in back.changes if change.verdict == "faster"] == ["a", "rate"]
    assert not back.slower


def test_nothing_may_become_something(tmp_path: Path) -> None:
    nothing, something = report(tmp_path, a=(0, 0), b=(0, 0)), report(tmp_path, a=(0, 0), b=(1, 1))
    assert [change.name for change in compare(nothing, something).slower] == ["b"]
    assert not compare(something, nothing).slower


def test_on_another_machine_ratios_are_compared(tmp_path: Path) -> None:
    old = report(tmp_path, ours=(1, 1), theirs=(5, 5))
    new = report(tmp_path, ours=(4, 4), theirs=(10, 10))
    for made in (old, new):
        made.ratio("theirs over ours", "theirs", "ours")  # fell from 5 to 2.5
    new.provenance["machine"] = new.provenance["machine"] | {"cpu": "another"}
    found = compare(old, new)
    assert not found.same_machine
    assert [change.name for change in found.slower] == ["theirs over ours"]
    assert [change.cost for change in found.slower] == [1.0]


def test_the_command_compares_two_folders(tmp_path: Path) -> None:
    for name, value in (("old", 1.0), ("new", 2.0)):
        report(tmp_path / name, ours=(value, value)).write()
    command = [sys.executable, "-m", "benchmarks", "compare", tmp_path / "old", tmp_path / "new"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "1 slower, 0 faster, of 1" in done.stdout


def test_plots_are_small_files_that_do_not_change(tmp_path: Path) -> None:
    samples = summarise([1.0, 2.0, 3.0])
    for number in range(2):
        folder = tmp_path / str(number)
        percentile_plot({"one": samples}, "Latency", folder / "a.svg")
        throughput_plot({"x": [(1, 5), (4, 9)]}, {"x": [(1, 1), (4, 3)]}, "Rate", folder / "b.svg")
        stage_plot({"ours": {"segment": 1.0, "search": 2.0}}, "Stages", folder / "c.svg")
        recall_plot({"flat": (100.0, 1.0)}, "Recall", folder / "d.svg")
    for file in (tmp_path / "0").iterdir():
        assert file.read_bytes() == (tmp_path / "1" / file.name).read_bytes()
        assert file.stat().st_size < 60_000
