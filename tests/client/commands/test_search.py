"""`vireo search`: one query, a file of them, and the prompt."""

import json
import os
import pty
import select
import subprocess
import sys

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from vireo_client.commands import prompt as prompt_module
from vireo_client.commands.search import search
from vireo_client.search import SearchClient

app = typer.Typer()
app.command()(search)


@pytest.fixture
def run(made):
    """Run the command on the index; returns the result."""

    def run(*words, code=0, **options):
        result = CliRunner().invoke(app, [*map(str, words), "--index", str(made)], **options)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


def _json(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def _photo(made, number):
    return made.parent / "photos" / f"{number}.png"


def test_one_query_prints_a_line_a_hit(run, made):
    lines = run("hai con chó", "-k", 3).stdout.splitlines()
    with SearchClient(made) as client:
        matches = client.search("hai con chó", 3)
    assert [line.split()[-1] for line in lines] == [match.path for match in matches]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_json_keeps_its_keys_and_gains_some(run):
    (answer,) = _json(run("hai con chó", "-k", 1, "--json"))
    assert answer["query"] == "hai con chó"
    (match,) = answer["matches"]
    assert set(match) == {
        "rank", "score", "path", "caption", "id", "relevance", "metadata",
    }  # fmt: skip


def test_text_and_image_are_weighted(run, made):
    photo = _photo(made, 3)
    words = ("con mèo", "--image", photo, "--json")
    (by_image,) = _json(run(*words, "--weights", "0,1"))
    assert (by_image["query"], by_image["image"]) == ("con mèo", str(photo))
    assert by_image["matches"][0]["path"] == str(photo.resolve())
    (alike,) = _json(run(*words))
    with SearchClient(made) as client:
        expected = client.search("con mèo", image=photo)
    assert [m["path"] for m in alike["matches"]] == [m.path for m in expected]


def test_captions_of_a_text_and_of_an_image(run, made):
    assert "ảnh số 2  (" in run("ảnh số 2", "--captions", "-k", 1).stdout
    assert "ảnh số" in run("--image", _photo(made, 2), "--captions", "-k", 1).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x", "--queries", "f"], "and not both"),
        (["x", "--weights", "1,2"], "--weights needs"),
        (["x", "--image", "i", "--weights", "a,b"], "give two numbers"),
        (["--image", "i", "--hybrid"], "--hybrid needs"),
        (["--captions", "x", "--image", "i"], "and not both"),
        (["--sheet", "a.png"], "--sheet needs a query"),
        (["x", "--sheet", "a.zzz"], "name it .png or .jpg"),
        (["x", "--sheet", "a.psd"], "name it .png or .jpg"),
        (["x", "--min-relevance", "2"], "--min-relevance"),
        (["x", "-k", "0"], "-k"),
    ],
)
def test_wrong_usage_is_explained(run, words, message):
    output = run(*words, code=2, env={"COLUMNS": "200"}).output
    assert message in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "holds no text"),
        (["x", "--image", "{}", "--weights", "0,0"], "weights are 0 and 0"),
        (["x", "--image", "{}", "--weights", "nan,1"], "weights are nan and 1"),
        (["--image", "gone.jpg"], "no such file"),
        (["--queries", "gone.txt"], "No such file"),
    ],
)
def test_what_cannot_be_asked_is_an_error(run, made, words, message):
    result = run(*(word.format(_photo(made, 0)) for word in words), code=1)
    assert message in str(result.exception)


def test_filters_words_and_relevance_are_options(run, made):
    filtered = _json(run("xe", "--filter", 'name in ("2.png", "4.png")', "--json"))[0]["matches"]
    assert sorted(match["metadata"]["name"] for match in filtered) == ["2.png", "4.png"]
    assert _json(run("xe", "--filter", 'name in ("2.png", "4.png")', "--exact", "--json"))[0][
        "matches"
    ] == filtered  # fmt: skip
    assert "nope" in str(run("xe", "--filter", "nope = 1", code=1).exception)
    assert _json(run("xe", "--min-relevance", "1", "--json"))[0]["matches"] == []
    found = _json(run("xe", "--min-relevance", "0", "--json"))[0]["matches"]
    assert all(0 <= match["relevance"] < 1 for match in found)
    assert found
    with SearchClient(made) as client:
        expected = client.search("ảnh 4", 6, hybrid=True)
        plain = client.search("ảnh 4", 6)
    words = _json(run("ảnh 4", "-k", 6, "--hybrid", "--json"))[0]["matches"]
    assert [match["id"] for match in words] == expected.ids.tolist()
    assert expected.ids.tolist() != plain.ids.tolist()


def test_the_prompt_filters_and_takes_words(run):
    lines = [':filter name = "2.png"', "xe", ":filter", "xe", ":hybrid on", "ảnh 4", ":hybrid off",
             "ảnh 4"]  # fmt: skip
    one, all_, words, plain = _json(run("--json", input="\n".join(lines)))
    assert [match["metadata"]["name"] for match in one["matches"]] == ["2.png"]
    assert len(all_["matches"]) == 6
    assert [m["id"] for m in words["matches"]] != [m["id"] for m in plain["matches"]]
    result = run(input=":filter nope = 1\nxe\n:min-relevance 0.5\n:filter\nxe\n", code=1)
    assert len(result.stderr.splitlines()) == 2


def test_a_sheet_is_drawn(run, tmp_path):
    run("xe", "--sheet", tmp_path / "s.png")
    assert Image.open(tmp_path / "s.png").size[1] > 150


def test_a_file_of_queries_becomes_json_lines_and_sheets(run, tmp_path):
    file = tmp_path / "queries.txt"
    file.write_text("\ufeffhai con chó\n\n  xe  \r\n", encoding="utf-8")
    result = run("--queries", file, "-k", 2, "--sheet", tmp_path / "sheets")
    answers = _json(result)
    assert [answer["query"] for answer in answers] == ["hai con chó", "xe"]
    assert [len(answer["matches"]) for answer in answers] == [2, 2]
    assert sorted(os.listdir(tmp_path / "sheets")) == ["00001.png", "00003.png"]
    assert _json(run("--queries", "-", "-k", 2, input="hai con chó\nxe\n")) == answers
    captions = _json(run("--queries", file, "-k", 2, "--captions"))
    assert all(match["caption"] for answer in captions for match in answer["matches"])


def test_queries_that_fail_do_not_keep_the_others_from_an_answer(run, tmp_path):
    file = tmp_path / "queries.txt"
    file.write_text("xe\n👍\nmèo\n" + "chó\n" * 100)
    result = run("--queries", file, code=1)
    answers = _json(result)
    assert len(answers) == 103
    assert ["error" in answer for answer in answers[:4]] == [False, True, False, False]
    assert "1 of 103 queries could not be answered" in str(result.exception)


def test_a_file_that_is_no_utf8_is_named_with_the_line(run, tmp_path):
    (tmp_path / "q.txt").write_bytes(b"xe\nm\xe8o\n")
    error = run("--queries", tmp_path / "q.txt", code=1).exception
    assert "q.txt, line 2: not UTF-8" in str(error)


def test_a_pipe_is_answered_line_by_line(run, made):
    photo = _photo(made, 3)
    lines = [":k 2", "xe", f":image {photo}", ":like 1", ":k 1", "mèo", ":quit", "chó"]
    answers = _json(run("--json", input="\n".join(lines)))
    assert [len(answer["matches"]) for answer in answers] == [2, 2, 2, 1]
    assert answers[2]["query"] == str(photo.resolve())
    assert answers[2]["matches"] == answers[1]["matches"]
    assert answers[3]["query"] == "mèo"


def test_mistakes_in_a_pipe_are_told_and_counted(run, tmp_path):
    lines = [
        ":like 1", ":open 1", ":sheet a.png", "xe", ":like 11", ":open x", ":k 0", ":k", ":nope",
        ":hybrid maybe", ":min-relevance 2", ":sheet a.zzz", ":sheet /no/where.png", "👍",
        ":image gone.jpg", ":help", f":sheet {tmp_path}/s.png",
    ]  # fmt: skip
    result = run(input="\n".join(lines), code=1)
    assert len(result.stdout.splitlines()) == 6
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for line, message in zip(
        errors,
        [
            "no hits yet", "no hits yet", "no hits yet", "no hit 11; give one from 1 to 6",
            "no hit x", ":k 0: give", ":k : give", ":nope is no command", "say on or off",
            "between 0 and 1", "name the sheet", "/no/where.png: No such file", "holds no text",
            "gone.jpg: no such file",
        ],
        strict=True,
    ):  # fmt: skip
        assert message in line
    assert "Ctrl-D" in result.stderr
    assert (tmp_path / "s.png").is_file()


def test_a_hit_is_opened_in_the_viewer(run, monkeypatch, made):
    launched = []
    monkeypatch.setattr(prompt_module.typer, "launch", lambda path: launched.append(path) or 0)
    run(input=f":image {_photo(made, 4)}\n:open 1\n")
    assert launched == [str(_photo(made, 4).resolve())]
    monkeypatch.setattr(prompt_module.typer, "launch", lambda path: 1)
    result = run(input=f":image {_photo(made, 4)}\n:open 1\n", code=1)
    assert "no viewer of this system opens it" in result.stderr


_PROGRAM = """
import typer
from vireo_client.commands.search import search
app = typer.Typer()
app.command()(search)
app()
"""


def test_on_a_terminal_it_prompts_and_keeps_a_history(made, tmp_path):
    """A real terminal: each line is typed when the prompt is there."""
    pytest.importorskip("readline")

    def talk(*typed):
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "--index", made, "-k", "1"],
            stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"},
        )  # fmt: skip
        os.close(theirs)
        seen = b""
        for count, text in enumerate(typed, 1):
            while seen.count(b"vireo> ") < count:
                assert select.select([ours], [], [], 60)[0], seen
                seen += os.read(ours, 4096)
            os.write(ours, text)
        assert child.wait(60) == 0
        os.close(ours)
        return seen.decode()

    assert "  1   " in talk(b"xe\n", b":help\n", b"\x04")
    file = tmp_path / "vireo" / "history"
    assert file.read_text().splitlines()[-2:] == ["xe", ":help"]
    assert file.parent.stat().st_mode & 0o077 == 0
    shown = talk(b"\x10\x10\n", b":quit\n")  # twice the line before
    assert "  1   " in shown
    assert file.read_text().splitlines().count("xe") == 2


def test_a_history_that_cannot_be_kept_costs_nothing_else(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with prompt_module._history(tmp_path / "file" / "history"):
        pass
    assert "history" in caplog.text


def test_the_end_of_the_input_and_a_break_at_the_prompt(monkeypatch):
    typed = iter(["xe", KeyboardInterrupt(), "  ", "mèo", EOFError()])

    def answer(_):
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", answer)
    assert list(prompt_module._typed()) == ["xe", "mèo"]


def test_names_are_shown_as_they_are(capsys):
    from vireo_client.commands.showing import show
    from vireo_client.index.matches import Matches

    show(Matches([1], [0.5], ["a\x1b[2J\n[red].jpg"], relevance=[0.25]))
    assert capsys.readouterr().out == "  1   0.500  0.25  a\\x1b[2J\\n[red].jpg\n"
