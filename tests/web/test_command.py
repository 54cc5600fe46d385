"""What `vireo web` works out of its options, and that it opens a folder in one step."""

import json
import socket
import urllib.request

import pytest
import typer
from support.bundles import write_repository
from support.waiting import wait_until
from support.web_process import serving
from typer.testing import CliRunner
from vireo_client.errors import DataError, VireoError
from vireo_web import launch, running
from vireo_web.commands import web

KEY = "0123456789abcdef-key"


def test_an_index_is_told_from_a_folder_of_images(made, repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.find_source(made, tmp_path / "x", None, needs_model=True) == (made, None, None)
    assert launch.find_source(None, made, None, needs_model=True) == (made, None, None)
    photos, new = made.parent / "photos", tmp_path / "new"
    with pytest.raises(DataError, match="--model"):
        launch.find_source(photos, new, None, needs_model=True)
    given = launch.find_source(photos, new, repository.folder, needs_model=True)
    assert given == (new, photos, repository.folder)
    at_hand = write_repository(tmp_path / "runs" / "demo" / "model_repository")
    _, _, model = launch.find_source(photos, new, None, needs_model=True)
    assert model is not None
    assert model.resolve() == at_hand.folder
    # An index that is there knows its model.
    assert launch.find_source(photos, made, None, needs_model=True) == (made, photos, None)


def test_what_is_neither_is_refused(tmp_path, repository):
    with pytest.raises(DataError, match="no such folder"):
        launch.find_source(tmp_path / "nothing", tmp_path, None, needs_model=True)
    with pytest.raises(DataError, match="is a model"):
        launch.find_source(repository.folder, tmp_path, None, needs_model=True)


def test_keys_are_read_and_checked(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of Lan\n{KEY}\n\n")
    assert launch.read_keys(["another-key-of-16-letters"], file) == (
        "another-key-of-16-letters",
        KEY,
    )
    for text in ("", "# none\n", "short\n", "a key with spaces in it\n", "ключ-из-шестнадцати\n"):
        file.write_text(text)
        with pytest.raises(DataError):
            launch.read_keys([], file)
    with pytest.raises(DataError, match="cannot be read"):
        launch.read_keys([], tmp_path / "nothing")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_this_machine_needs_no_key(host):
    launch.check_key(host, ())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "photos.example"])
def test_others_need_one(host):
    with pytest.raises(VireoError, match="--key-file"):
        launch.check_key(host, ())
    launch.check_key(host, (KEY,))


@pytest.mark.parametrize("origin", ["*", "photos.example", "https://a.example/", "file://x"])
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(DataError, match="--cors"):
        launch.check_origins((origin,))
    launch.check_origins(("https://photos.example:8443",))


def test_small_answers_are_sent_at_once():
    """asyncio switches Nagle's algorithm off where a socket names TCP."""
    with running.listen("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_an_address_that_is_taken_is_told():
    with running.listen("127.0.0.1", 0) as taken:
        with pytest.raises(VireoError, match="give another --port"):
            running.listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(VireoError, match="cannot listen"):
        running.listen("no.such.host.invalid", 0)


def test_the_help_teaches():
    app = typer.Typer()
    app.command()(web)
    text = CliRunner().invoke(app, ["--help"]).output
    for word in ("--key-file", "--triton", "--root", "Examples", "127.0.0.1"):
        assert word in text


def test_a_folder_is_indexed_and_opened_in_one_step(tmp_path, repository, photo, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(4):
        photo(f"photos/{number}.png", seed=number)
    options = ["--index", tmp_path / "index", "--model", repository.folder]
    with serving(tmp_path / "photos", *options) as web:

        def info():
            with urllib.request.urlopen(f"{web.address}/v1/info", timeout=60) as answer:
                return json.load(answer)

        wait_until(lambda: info()["state"] == "ready")
        told = info()
    assert told["index"]["images"] == 4
    assert told["jobs"][0]["state"] == "done"
