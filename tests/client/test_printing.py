"""Names from elsewhere neither steer the terminal nor become markup."""

import ast
import io
import json
import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from vireo_client import cli, progress
from vireo_client.captions import Skip, log_skips
from vireo_client.errors import DataError
from vireo_client.printing import PrintableFormatter, json_line, printable, printable_lines, say

HOSTILE = "nope\\[/x] [red] \x1b[31m\x9b2J\r\x07 a\u202egpj.exe \udcff"
ROOT = Path(__file__).resolve().parents[2]
SHOWN = "nope\\[/x] [red] \\x1b[31m\\x9b2J\\r\\x07 a\\u202egpj.exe \\udcff"


def test_what_a_terminal_acts_on_is_written_out():
    assert printable(HOSTILE) == SHOWN
    assert printable("a\nb\tc\u2028") == "a\\nb\\tc\\u2028"
    assert printable_lines("a\nb\x1b") == "a\nb\\x1b"


def test_letters_spaces_and_emoji_stay():
    for text in ("hai con chó trên bãi cỏ", "9.41.00\u202fAM\u00a0.png", "👨‍👩‍👧 ❤️ 🇻🇳", "ảnh"):
        assert printable(text) == text


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_printed_and_written_as_json(text):
    shown = printable(text)
    shown.encode()
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    line = json_line({"path": text})
    line.encode()
    assert printable(line) == line
    # JSON writes a letter beyond U+FFFF as two halves, so that two halves are read as one.
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert json.loads(line) == {"path": joined}


def test_a_command_says_lines_that_stay_lines(capsys):
    say(f"{HOSTILE}: whole", "a\nb")
    say(Path("a\x1b"), err=True)
    assert capsys.readouterr() == (f"{SHOWN}: whole\na\\nb\n", "a\\x1b\n")


def _prints(path):
    """Return whether a module prints by itself, or hands a function on that does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name | ast.Attribute):
            name = ast.unparse(node)
            if name.rpartition(".")[2] in ("print", "echo", "secho"):
                return True
            if name in ("sys.stdout.write", "sys.stderr.write"):
                return True
    return False


def test_all_that_commands_print_passes_through_the_helpers():
    """`say`, `note` and the formatter make it safe; the tables consist of cells that are."""
    tables = {
        "client/vireo_client/commands/text.py",
        "training/vireo_training/commands/evaluate.py",
    }
    helpers = {f"client/vireo_client/{name}.py" for name in ("printing", "progress", "cli")}
    found = {
        path.relative_to(ROOT).as_posix()
        for root in ("client", "model_repository", "training", "export")
        for path in (ROOT / root).rglob("*.py")
        if _prints(path)
    }
    assert found == tables | helpers


def _terminal(monkeypatch, module=cli):
    out = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=out, force_terminal=True, width=300))
    return out


def test_notes_and_bars_show_names_as_they_are(monkeypatch):
    out = _terminal(monkeypatch, progress)
    progress.note(f"{HOSTILE}: whole")
    assert out.getvalue() == f"{SHOWN}: whole\n"
    with progress.progress_bar() as bar:
        bar.add_task(f"unpacking {HOSTILE}")
    assert f"unpacking {SHOWN}" in out.getvalue()


@pytest.mark.parametrize("verbose", [False, True])
def test_an_error_shows_names_as_they_are(monkeypatch, verbose):
    out = _terminal(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["vireo", *(["-v"] if verbose else [])])

    def fail():
        raise DataError(f"{HOSTILE}: no such folder\nsecond line")

    with pytest.raises(SystemExit) as exit_:
        cli.run(fail)
    assert exit_.value.code == 1
    assert f"error:\x1b[0m {SHOWN}: no such folder\nsecond line" in out.getvalue()
    assert ("Traceback" in out.getvalue()) == verbose
    for raw in ("\x1b[31m\x9b", "\x9b", "\x07", "\u202e"):
        assert raw not in out.getvalue()


def test_a_missing_file_with_such_a_name_is_shown_too(monkeypatch):
    out = _terminal(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["vireo"])
    with pytest.raises(SystemExit):
        cli.run(lambda: os.stat("/nope\\[/x]\x1b[2J"))
    assert "/nope\\[/x]\\x1b[2J: No such file or directory" in out.getvalue()


def test_a_log_record_shows_names_as_they_are():
    record = logging.LogRecord("x", logging.WARNING, "", 0, "skipped %s\nmore", (HOSTILE,), None)
    assert PrintableFormatter("%(message)s").format(record) == f"skipped {SHOWN}\nmore"


def test_a_skipped_name_stays_on_the_line_of_the_log(caplog):
    log_skips([Skip("a\nerror: b.jpg", "no image")])
    assert caplog.messages == ["skipped 1: a\\nerror: b.jpg: no image"]
