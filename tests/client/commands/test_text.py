from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from support.text_models import write_model, write_phobert
from typer.testing import CliRunner
from vireo_client.commands.text import text as command
from vireo_client.errors import VireoError

runner = CliRunner()
app = typer.Typer()
app.command()(command)
RUN = "import typer; from vireo_client.commands.text import text; typer.run(text)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_phobert(write_model(tmp_path / "model"))


def _options(folder: Path) -> list[str]:
    return ["--segmenter", "vncorenlp", "--model", str(folder)]


def test_shows_each_stage(folder: Path) -> None:
    result = runner.invoke(app, ["Xe hơi [đỏ]", *_options(folder), "--tokenizer", str(folder)])
    assert result.exit_code == 0
    for shown in (
        "normalized",
        "sentences (vncorenlp)",
        "Xe_hơi [ đỏ ]",
        "tokens",
        "ids",
        "bucket",
    ):
        assert shown in result.stdout


def test_json_lines_from_a_file(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "texts.txt"
    source.write_bytes("xe hơi.\r\n\nhòa\u2028bình\n".encode() + b"\xff\n")
    options = [*_options(folder), "--tokenizer", str(folder)]
    result = runner.invoke(app, ["--file", str(source), "--json", *options])
    rows = [json.loads(line) for line in result.stdout.split("\n") if line]
    assert [row["text"] for row in rows] == ["xe hơi.", "", "hòa\u2028bình", "\ufffd"]
    assert [row["sentences"] for row in rows] == [["xe_hơi ."], [], ["hoà_bình"], ["\ufffd"]]
    assert rows[0]["ids"][:1] == [0]


def test_standard_input(folder: Path) -> None:
    result = runner.invoke(app, ["--file", "-", "--json", *_options(folder)], input="con chó\n")
    assert json.loads(result.stdout) == {
        "text": "con chó",
        "normalized": "con chó",
        "sentences": ["con_chó"],
    }


def test_a_reader_that_leaves_is_no_error(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("con chó\n" * 20_000, encoding="utf-8")
    arguments = ["--file", str(source), "--json", *_options(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[3] / "client"), "PATH": ""},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"con_ch" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0


@pytest.mark.parametrize("arguments", [[], ["xe", "--file", "-"]])
def test_a_text_or_a_file(arguments: list[str]) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2


def test_a_missing_file_is_named(folder: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["--file", str(tmp_path / "nothing"), *_options(folder)])
    assert isinstance(result.exception, VireoError)
    assert "nothing: cannot be read" in str(result.exception)
