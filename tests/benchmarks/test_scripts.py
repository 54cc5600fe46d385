"""The benchmarks stand alone: shared parts in plain modules, no tests, only names that exist."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FILES = sorted(BENCHMARKS.glob("*.py"))
SCRIPTS = {file.stem for file in FILES if "def main()" in file.read_text(encoding="utf-8")}
SHARED = {file.stem for file in FILES} - SCRIPTS


def imports(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Return (module, names) of every import of a file."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            found.append((str(node.module), tuple(alias.name for alias in node.names)))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_no_script_imports_another_script_or_the_tests(file: Path) -> None:
    roots = {module.partition(".")[0] for module, _ in imports(file)}
    assert not roots & (SCRIPTS | {"tests", "conftest"})
    assert "sys.path" not in file.read_text(encoding="utf-8")
    # `support` is the benchmarks' own module, not the tests' package of that name.
    assert not [module for module, _ in imports(file) if module.startswith("support.")]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_imported_names_exist(file: Path) -> None:
    for module, names in imports(file):
        root = module.partition(".")[0]
        if root in SHARED:
            text = (BENCHMARKS / f"{module}.py").read_text(encoding="utf-8")
            defined = set()
            for node in ast.parse(text).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    defined.add(node.name)
                elif isinstance(node, ast.Assign):
                    defined |= {t.id for t in node.targets if isinstance(t, ast.Name)}
            assert set(names) <= defined
        elif root.startswith("vireo_"):
            loaded = importlib.import_module(module)
            assert not [name for name in names if not hasattr(loaded, name)]


def test_a_script_runs_and_writes_its_report(tmp_path: Path) -> None:
    output = tmp_path / "ranking.json"
    subprocess.run(
        [sys.executable, BENCHMARKS / "ranking.py", "--sizes", "64", "--output", output],
        check=True, capture_output=True,
    )  # fmt: skip
    report = json.loads(output.read_text(encoding="utf-8"))
    assert report["machine"]["cpu"]
    (row,) = report["measured"]
    assert row["blocks"]["mean_rank"] == row["whole"]["mean_rank"]
