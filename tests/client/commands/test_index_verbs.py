"""The verbs of `vireo index`, and `vireo embed`, in this process."""

import csv
import json
import os

import numpy as np
import pytest
import typer
from typer.testing import CliRunner
from vireo_client.commands.embed import embed
from vireo_client.commands.index import index
from vireo_client.errors import DataError, SearchIndexError


@pytest.fixture
def vireo(tmp_path, repository):
    """Return a function that runs a command in the test's folder and returns what it prints."""
    single = typer.Typer()
    single.command()(embed)
    here = os.getcwd()
    os.chdir(tmp_path)

    def run(*words, app=index, stdin=None, fails=None):
        words = [str(word) for word in words]
        if words[0] not in ("info", "verify", "remove", "snapshot", "compact", "export"):
            words += ["--model", str(repository.folder)]
        if app is index:
            words += ["--index", "i"] if "--index" not in words else []
        result = CliRunner().invoke(index if app is index else single, words, input=stdin)
        if fails is not None:
            assert isinstance(result.exception, fails), result.output
            return str(result.exception)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.stdout

    yield run
    os.chdir(here)


def test_a_folder_is_added_without_a_verb_and_with_options_first(vireo, photos, repository):
    assert "6 images added" in vireo(photos)
    assert "6 unchanged" in vireo("add", photos)
    assert "6 unchanged" in vireo("--workers", "1", photos)
    (photos.parent / "info").mkdir()
    (photos / "a.png").rename(photos.parent / "info" / "a.png")
    assert "1 images added" in vireo("./info")
    assert "images                  7" in vireo("info")


def test_no_verb_but_add_makes_an_index(vireo, repository):
    model = ("--model", repository.folder)
    for words in (("remove", "a.jpg"), ("compact",), ("export", "out")):
        assert "no index here" in vireo(*words, *model, fails=SearchIndexError)
    assert not os.path.exists("i")


def test_help_teaches_the_verbs_and_the_short_form():
    result = CliRunner().invoke(index, ["--help"])
    assert result.exit_code == 0
    for verb in ("add", "info", "verify", "compact", "remove", "import", "export", "snapshot"):
        assert verb in result.output
    assert "is short for" in result.output
    assert "--report" in CliRunner().invoke(index, ["add", "--help"]).output


def test_paths_are_read_from_standard_input(vireo, photos):
    names = [str(photos / f"{name}.png") for name in "ab"]
    assert "2 images added" in vireo("-", stdin="\n".join(names))
    assert "0 images added" in vireo("-", "-0", stdin="\0".join(names))
    (photos / "a.png").unlink()  # a stream says nothing of what it does not name
    assert "0 removed" in vireo("-", stdin=names[1])


def test_a_report_names_what_was_skipped_moved_and_found_twice(vireo, photos):
    vireo(photos)
    (photos / "a.png").write_bytes(b"rubbish")
    (photos / "b.png").rename(photos / "x.png")
    (photos / "y.png").write_bytes((photos / "c.png").read_bytes())
    vireo(photos, "--report", "r.csv", "--duplicates")
    with open("r.csv", newline="") as file:
        rows = [(what, os.path.basename(path)) for what, path, _ in csv.reader(file)]
    assert rows[1:] == [
        ("skipped", "a.png"), ("moved", "b.png"), ("removed", "a.png"), ("duplicate", "y.png"),
    ]  # fmt: skip
    assert "a report is a .json" in vireo(photos, "--report", "r.txt", fails=DataError)


def test_an_index_is_shown_verified_compacted_copied_and_cut(vireo, photos, tmp_path):
    vireo(photos)
    told = json.loads(vireo("info", "--json"))
    assert (told["images"], told["captions"], told["kinds"]["images"]) == (6, 0, "flat")
    assert "i: whole" in vireo("verify")
    assert "compacted" in vireo("compact", "--kind", "fp16")
    assert "kind of images          fp16" in vireo("info")
    assert "6 images and 0 captions copied" in vireo("snapshot", "copy")
    assert "1 images removed" in vireo("remove", photos / "a.png")
    assert "not in the index" in vireo("remove", photos / "a.png", fails=DataError)
    assert json.loads(vireo("info", "--json"))["images"] == 5
    assert "copy: whole" in vireo("verify", "--index", "copy")
    for verb in ("info", "verify", "compact"):
        assert "no index" in vireo(verb, "--index", "gone", fails=SearchIndexError)
    assert not (tmp_path / "gone").exists()


def test_a_damaged_index_is_named_and_repaired(vireo, photos, tmp_path):
    vireo(photos)
    (vectors,) = (tmp_path / "i" / "segments").glob("images-*.vectors.npy")
    data = bytearray(vectors.read_bytes())
    data[-3] ^= 0x40
    vectors.write_bytes(data)
    assert "1 problems" in vireo("verify", fails=SearchIndexError)
    told = json.loads(vireo("verify", "--repair", "--json"))
    assert told["repaired"]
    assert vectors.name in told["problems"][0]["where"]
    assert "i: whole" in vireo("verify")
    vireo(photos)
    assert json.loads(vireo("info", "--json"))["images"] == 6


def test_embeddings_are_written_and_imported(vireo, photos, tmp_path):
    assert "6 images embedded" in vireo(photos, "--out", "e", "--half", app=embed)
    assert np.load("e/img_emb/img_emb_0.npy").dtype == np.float16
    assert "6 images imported" in vireo("import", "e")
    assert "6 unchanged" in vireo(photos)
    assert "6 images and 0 captions written" in vireo("export", "f")
    (tmp_path / "q.txt").write_text("con cá\nngôi nhà\n")
    assert "2 texts embedded" in vireo("q.txt", "--texts", "--out", "g", app=embed)
    names = "\n".join(str(photos / f"{name}.png") for name in "ab")
    assert "2 images embedded" in vireo("-", "--out", "h", app=embed, stdin=names)


def test_what_cannot_be_imported_leaves_no_index(vireo, photos, tmp_path):
    assert "no embeddings here" in vireo("import", "nothing", fails=DataError)
    vireo(photos, "--out", "e", app=embed)
    np.save("e/img_emb/img_emb_0.npy", np.ones((6, 3), np.float32))
    assert "embeddings of size 3" in vireo("import", "e", fails=DataError)
    assert not (tmp_path / "i").exists()
