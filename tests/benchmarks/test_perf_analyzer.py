"""What is written for `perf_analyzer`, how it is started, and what is read of it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import perf_analyzer
from benchmarks.load.perf_analyzer import LOADER, PerfAnalyzer, read_figures, write_inputs

CSV = """Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency
4,1339.25,50,2900,3100,3200,4100
"""


def test_inputs_are_texts_or_base_64(tmp_path: Path) -> None:
    texts = json.loads(write_inputs(tmp_path / "a.json", "text", ["xe hơi", "con chó"]).read_text())
    assert texts == {"data": [{"text": ["xe hơi"]}, {"text": ["con chó"]}]}
    images = json.loads(write_inputs(tmp_path / "b.json", "image", [b"\xff\xd8"]).read_text())
    assert base64.b64decode(images["data"][0]["image"]["b64"]) == b"\x02\0\0\0\xff\xd8"


def test_a_newer_loader_starts_it(tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "lib" / "x86_64-linux-gnu"
    folder.mkdir(parents=True)
    for name in (LOADER, "libc.so.6"):
        (folder / name).touch()
    analyzer = PerfAnalyzer(Path("/opt/perf_analyzer"), tmp_path)
    loader, option, folders, binary = analyzer.command()
    assert (loader, option, binary) == (
        str(folder / LOADER), "--library-path", "/opt/perf_analyzer",
    )  # fmt: skip
    assert str(folder) in folders.split(":")


def test_a_folder_without_a_loader_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="unpack libc6"):
        PerfAnalyzer(Path("/opt/perf_analyzer"), tmp_path).command()


def test_its_figures_are_read_in_milliseconds(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    found = read_figures(tmp_path / "a.csv")
    assert found == {"per_second": 1339.25, "p50": 2.9, "p90": 3.1, "p95": 3.2, "p99": 4.1}


def test_its_failure_has_its_last_line(tmp_path: Path) -> None:
    program = tmp_path / "perf_analyzer"
    program.write_text(
        f"#!{sys.executable}\nprint('error: model not found')\nraise SystemExit(1)\n"
    )
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="model not found"):
        PerfAnalyzer(program).measure("x:1", "m", tmp_path, 1, 0.1, tmp_path / "out.csv")


def test_one_that_does_not_end_is_a_failure_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(perf_analyzer.subprocess, "run", hang)
    with pytest.raises(RuntimeError, match="did not end within 63 s"):
        PerfAnalyzer(tmp_path).measure("x:1", "m", tmp_path, 1, 0.1, tmp_path / "out.csv")
