"""Callers that send slowly, read nothing or go away: others are served all the same."""

import contextlib
import socket
import threading

import pytest
import uvicorn
from fastapi.testclient import TestClient
from httpx2 import Client
from support.waiting import SECONDS, wait_until
from support.web_process import serving
from vireo_web import connections
from vireo_web.app import create_app
from vireo_web.connections import PatientProtocol
from vireo_web.settings import Limits, Settings

HEAD = b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def _running(app):
    """Run an application in a thread, as `vireo web` does; yield its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=PatientProtocol, log_level="error", timeout_keep_alive=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        listening.close()


def test_200_slow_connections_keep_nobody_waiting(made, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with contextlib.ExitStack() as opened, Client(timeout=SECONDS) as client:
        address = opened.enter_context(serving(made)).address
        port = int(address.rpartition(":")[2])
        for number in range(200):
            slow = opened.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS))
            if number % 4 == 0:
                slow.sendall(HEAD)  # a head without an end
            elif number % 4 == 1:
                slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")  # a body without an end
            elif number % 4 == 2:
                slow.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 5)
        for _ in range(3):
            answer = client.get(f"{address}/v1/search", params={"q": "ảnh", "k": 3})
            assert len(answer.json()["matches"]) == 3


def test_a_head_that_does_not_end_is_cut_off(made, repository, monkeypatch, tmp_path):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    app = create_app(Settings(made, model=repository.folder, cache=tmp_path))
    with _running(app) as port:
        for sent in (b"", HEAD, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /hea"):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as slow:
                slow.sendall(sent)
                while slow.recv(65536):  # ends when the server closes
                    pass


def test_a_body_that_does_not_end_is_answered_with_what_was_wrong(made, repository, tmp_path):
    limits = Limits(upload_seconds=0.2)
    app = create_app(Settings(made, model=repository.folder, cache=tmp_path, limits=limits))
    with _running(app) as port, socket.create_connection(("127.0.0.1", port), SECONDS) as slow:
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"TooSlowError" in answer


def test_one_who_leaves_in_the_middle_of_an_answer_leaves_nothing_behind(
    made, repository, tmp_path
):
    app = create_app(Settings(made, model=repository.folder, cache=tmp_path))
    with _running(app) as port:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as leaving:
                leaving.sendall(b"GET /v1/images/1 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        with Client(timeout=SECONDS) as client:
            assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        counted = app.state.vireo.metrics
        wait_until(lambda: 'route="/v1/images/{id}"' in counted.text({}))


@pytest.mark.parametrize("verb", ["get", "post"])
def test_an_unknown_path_is_a_problem_too(made, tmp_path, refused, verb):
    with TestClient(create_app(Settings(made, cache=tmp_path)), base_url="http://localhost") as c:
        refused(getattr(c, verb)("/v2/search"), 404)
        refused(c.put("/v1/search"), 405)
