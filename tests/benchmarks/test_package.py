"""The package `benchmarks`: every module imports, every command has a line of help."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contenders.turns import Plan, in_turns
from benchmarks.jobs import all_jobs
from benchmarks.jobs.run import FULL, QUICK, Run
from benchmarks.load.clients import FunctionTarget
from benchmarks.load.loops import Ask
from benchmarks.models.sizes import PAIRS
from benchmarks.report.document import Report

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks"
NOT_OURS = {"sentence_transformers", "fastapi", "uvicorn"}
"""Packages that are not needed until something is measured beside them."""
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in FOLDER.glob("*/*.py")
    if file.name != "__init__.py"
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    package = next((name for name in NOT_OURS if _imports(module, name)), None)
    if package and not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed")
    importlib.import_module(module)


def _imports(module: str, package: str) -> bool:
    text = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    return f"\nfrom {package} import" in text or f"\nimport {package}" in text


def test_every_job_has_a_line_of_help() -> None:
    command = [sys.executable, "-m", "benchmarks", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for job in (*all_jobs.JOBS, all_jobs.ALL, "compare"):
        assert job in text
    assert all(len(all_jobs.about(job)) > 20 for job in all_jobs.JOBS)


def test_a_quick_run_is_a_part_of_the_whole() -> None:
    names = {pair.name for pair in PAIRS}
    assert set(QUICK.pairs) < set(FULL.pairs) == names
    assert set(QUICK.clients) < set(FULL.clients)
    assert set(QUICK.batches) < set(FULL.batches)


def test_a_job_without_the_demo_says_what_is_missing(tmp_path: Path) -> None:
    run = Run(tmp_path / "out", tmp_path / "work", tmp_path / "nothing", QUICK)
    all_jobs.run_job("reload", run)
    report = Report.read(tmp_path / "out")
    assert "make demo" in report.not_run["the demo's model"]
    assert "make demo" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_only_some_jobs_have_a_half_for_gpus(tmp_path: Path) -> None:
    run = Run(tmp_path / "out", tmp_path / "work", tmp_path / "nothing", QUICK, device="cuda")
    with pytest.raises(ValueError, match="reload is not measured on a GPU"):
        all_jobs.run_job("reload", run)


def _staged() -> Ask:
    return lambda number: {"segment": 1.0, "number": float(number)}


def _plain() -> Ask:
    return lambda number: None


def test_contenders_take_turns_with_the_same_calls() -> None:
    contenders = {"staged": FunctionTarget(_staged), "plain": FunctionTarget(_plain)}
    found = in_turns(contenders, Plan(rounds=2, calls=3, seconds=60))
    assert [len(seconds) for seconds in found["plain"].rounds] == [3, 3]
    assert found["plain"].stages == []
    assert [stage["number"] for stage in found["staged"].stages] == [0, 1, 2, 3, 4, 5]
