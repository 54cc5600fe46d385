"""The API through a real Triton, which ends in the middle of searches and comes back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.clients import write_photo_index
from support.waiting import wait_until
from vireo_client.search import SearchClient
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

pytest.importorskip("fastapi", reason="the page's server needs vireo[web]")
pytest.importorskip("httpx2", reason="the tests of the page's server need httpx2")

from fastapi.testclient import TestClient
from vireo_web.app import create_app
from vireo_web.settings import Settings


def test_a_triton_that_restarts_is_told_and_come_back_to(repository, tmp_path):
    index = write_photo_index(tmp_path, repository)
    with SearchClient(index) as client:
        expected = client.search("ảnh số 3", 6).paths
    first = TritonServer(repository.folder, ports=Ports(0, 0, 0))
    ports = first.ports
    app = create_app(Settings(index, triton=first.url, cache=tmp_path / "cache"))
    ended, answers = threading.Event(), []

    def search_on(client):
        while not ended.is_set():
            answer = client.get("/v1/search", params={"q": "ảnh số 3", "k": 6})
            answers.append(answer)
            if answer.status_code != 200:
                ended.wait(0.05)

    def last():
        return answers[-1].status_code if answers else 0

    with TestClient(app, base_url="http://127.0.0.1") as client, ThreadPoolExecutor(8) as threads:
        try:
            running = [threads.submit(search_on, client) for _ in range(8)]
            wait_until(lambda: len(answers) > 50)
            first.stop()
            wait_until(lambda: last() == 503)
            info = client.get("/v1/info").json()
            assert info["engine"] == "triton"
            assert info["state"] == "unavailable"
            assert client.get("/readyz").status_code == 503
            more = {"image_id": 1}  # its stored vector needs no Triton
            assert client.get("/v1/search", params=more).status_code == 200
            with TritonServer(repository.folder, ports=ports):
                wait_until(lambda: last() == 200)
                before = len(answers)
                wait_until(lambda: len(answers) > before + 50)
                assert client.get("/readyz").status_code == 200
                ended.set()
                for one in running:
                    one.result()
        finally:
            ended.set()
            first.stop()
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
            assert answer.json()["error"].startswith("Server")
        else:
            assert [match["path"] for match in answer.json()["matches"]] == expected
