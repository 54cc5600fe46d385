"""Jobs of indexing over HTTP: progress, cancelling, going on, and what goes wrong."""

import json
import os
import resource
import shutil
import threading

import pytest
from httpx2 import Client
from support.page_server import PageServer
from support.waiting import SECONDS, wait_until
from support.web_process import serving
from vireo_client.index import IndexWriter, maintenance
from vireo_client.indexing import pipeline
from vireo_web.jobs import ENDED


@pytest.fixture
def photos(tmp_path, photo):
    """Return a folder of eight photos and a text."""
    for number in range(8):
        photo(f"photos/{number}.png", seed=number)
    (tmp_path / "photos" / "broken.png").write_text("no image")
    return tmp_path / "photos"


@pytest.fixture
def client(serve, tmp_path):
    return serve(tmp_path / "index", roots=(tmp_path,))


def _begin(client, folder):
    answer = client.post("/v1/index", json={"folder": str(folder)})
    assert answer.status_code == 202, answer.text
    return answer.json()["job"]["id"]


def _end(client, id_):
    def job():
        return client.get(f"/v1/index/{id_}").json()["job"]

    wait_until(lambda: job()["state"] in ENDED)
    return job()


@pytest.fixture
def gate(monkeypatch):
    """Hold up each job before it embeds: `entered` is set then, and `open` lets it go on."""

    class Gate:
        entered, open = threading.Event(), threading.Event()

    real = pipeline.embed_candidates

    def held(*arguments, **options):
        Gate.entered.set()
        assert Gate.open.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr(pipeline, "embed_candidates", held)
    yield Gate
    Gate.open.set()


def test_a_folder_is_indexed_and_found(client, photos):
    assert client.get("/v1/info").json()["state"] == "no-index"
    job = _end(client, _begin(client, photos))
    assert (job["state"], job["added"], job["done"], job["total"]) == ("done", 8, 9, 9)
    assert job["skipped_count"] == 1
    assert job["skipped"][0]["path"].endswith("broken.png")
    assert job["skipped"][0]["reason"]
    assert job["error"] is None
    found = client.get("/v1/search", params={"q": "ảnh"})
    assert len(found.json()["matches"]) == 8
    info = client.get("/v1/info").json()
    assert info["state"] == "ready"
    assert info["index"]["images"] == 8
    assert info["jobs"][0]["id"] == job["id"]


def test_indexed_again_nothing_is_embedded(client, photos):
    _end(client, _begin(client, photos))
    os.unlink(photos / "3.png")
    job = _end(client, _begin(client, photos))
    assert (job["added"], job["removed"], job["unchanged"]) == (0, 1, 7)


def test_events_tell_the_progress_and_the_end(client, photos):
    id_ = _begin(client, photos)
    with client.stream("GET", f"/v1/index/{id_}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events[-1] == "end"
    assert set(events[:-1]) <= {"progress"}
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert json.loads(data[-1]) == client.get(f"/v1/index/{id_}").json()["job"]


def test_a_browser_that_goes_away_stops_no_job(repository, tmp_path, photos, gate):
    options = {"model": repository.folder, "cache": tmp_path / "cache", "roots": (tmp_path,)}
    with (
        PageServer(tmp_path / "index", **options) as server,
        Client(base_url=server.url, timeout=SECONDS) as client,
    ):
        id_ = _begin(client, photos)
        assert gate.entered.wait(SECONDS)
        with client.stream("GET", f"/v1/index/{id_}/events") as answer:
            assert next(answer.iter_lines()) == "event: progress"  # and the rest is left unread
        gate.open.set()
        assert _end(client, id_)["state"] == "done"


def test_a_job_is_cancelled_and_goes_on(client, photos, gate, refused):
    id_ = _begin(client, photos)
    assert gate.entered.wait(60)
    refused(client.post(f"/v1/index/{id_}/resume"), 409, "ConflictError")
    assert client.delete(f"/v1/index/{id_}").status_code == 200
    gate.open.set()
    assert _end(client, id_)["state"] == "cancelled"
    again = client.post(f"/v1/index/{id_}/resume")
    assert again.status_code == 202
    job = _end(client, id_)
    assert job["state"] == "done"
    assert client.get("/v1/info").json()["index"]["images"] == 8
    refused(client.post(f"/v1/index/{id_}/resume"), 409, "ConflictError")


def test_what_a_cancelled_job_did_is_kept(client, photos, monkeypatch):
    real = pipeline._Run._advance
    id_ = []

    def advance(run, images):
        if images and run._done + images >= 4:
            client.delete(f"/v1/index/{id_[0]}")
        real(run, images)

    begun = threading.Event()
    monkeypatch.setattr(pipeline._Run, "_advance", lambda r, n: (begun.wait(60), advance(r, n))[1])
    id_.append(_begin(client, photos))
    begun.set()
    job = _end(client, id_[0])
    assert job["state"] == "cancelled"
    kept = client.get("/v1/info").json()["index"]["images"]
    assert kept == job["added"]
    monkeypatch.setattr(pipeline._Run, "_advance", real)
    client.post(f"/v1/index/{id_[0]}/resume")
    job = _end(client, id_[0])
    assert (job["added"], job["unchanged"]) == (8 - kept, kept)


def test_one_runs_and_the_others_wait(client, photos, tmp_path, gate):
    shutil.copytree(photos, tmp_path / "more")
    first = _begin(client, photos)
    assert gate.entered.wait(60)
    second = _begin(client, tmp_path / "more")
    assert client.get(f"/v1/index/{second}").json()["job"]["state"] == "queued"
    assert _begin(client, tmp_path / "more") == second  # it waits already
    assert client.get("/v1/info").json()["state"] == "indexing"
    third = _begin(client, tmp_path)
    assert client.delete(f"/v1/index/{third}").json()["job"]["state"] == "cancelled"
    gate.open.set()
    assert _end(client, first)["state"] == "done"
    assert _end(client, second)["state"] == "done"
    assert _end(client, third)["added"] == 0


def test_another_writer_is_named(client, photos, tmp_path, repository):
    with IndexWriter(tmp_path / "index", repository):
        job = _end(client, _begin(client, photos))
    assert job["state"] == "failed"
    assert "another" in job["error"] or "writ" in job["error"]
    client.post(f"/v1/index/{job['id']}/resume")
    assert _end(client, job["id"])["state"] == "done"


def test_a_folder_without_images_is_told(client, tmp_path):
    (tmp_path / "empty").mkdir()
    job = _end(client, _begin(client, tmp_path / "empty"))
    assert job["state"] == "failed"
    assert "no images" in job["error"]
    assert not (tmp_path / "index").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_told(client, photos):
    photos.chmod(0)
    try:
        assert _end(client, _begin(client, photos))["state"] == "failed"
    finally:
        photos.chmod(0o700)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit, as Linux has it")
def test_a_full_disk_is_told_and_what_was_there_stays(photos, folder, tmp_path, repository):
    root = ["--root", tmp_path, "--model", repository.folder]
    with serving(folder, *root) as web, Client(base_url=web.address, timeout=SECONDS) as client:
        before, most = resource.prlimit(web.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(web.pid, resource.RLIMIT_FSIZE, (1000, most))  # no file may be larger
        job = _end(client, _begin(client, photos))
        assert job["state"] == "failed"
        assert str(folder) in job["error"]
        assert len(client.get("/v1/search", params={"q": "ảnh"}).json()["matches"]) == 6
        resource.prlimit(web.pid, resource.RLIMIT_FSIZE, (before, most))
        client.post(f"/v1/index/{job['id']}/resume")
        assert _end(client, job["id"])["state"] == "done"
        assert len(client.get("/v1/search", params={"q": "ảnh"}).json()["matches"]) == 14
    assert maintenance.verify(folder).is_whole


@pytest.mark.parametrize(
    "folder", ["/etc", "/", "..", "photos", "{root}/../..", "\x00", "~root", "{root}/link", ""]
)
def test_only_folders_below_the_roots_are_taken(client, tmp_path, folder):
    (tmp_path / "link").symlink_to("/etc")
    folder = folder.format(root=tmp_path)
    answer = client.post("/v1/index", json={"folder": folder})
    assert answer.status_code in (403, 422)
    if folder:
        assert client.get("/v1/folders", params={"path": folder}).status_code in (403, 422)


def test_a_path_outside_never_reaches_the_file_system(client, monkeypatch):
    def touched(*_, **__):
        raise AssertionError("asked of the file system")

    for name in ("realpath", "isdir", "exists"):
        monkeypatch.setattr(f"vireo_web.choosing.os.path.{name}", touched)
    assert client.get("/v1/folders", params={"path": "/etc/ssl"}).status_code == 403


def test_folders_are_listed_below_the_roots(client, photos, tmp_path):
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "out").symlink_to("/etc")
    roots = client.get("/v1/folders").json()
    assert [folder["path"] for folder in roots["folders"]] == [str(tmp_path)]
    assert roots["parent"] is None
    listed = client.get("/v1/folders", params={"path": str(tmp_path)}).json()
    names = {folder["name"]: folder["images"] for folder in listed["folders"]}
    assert names["photos"] == 9
    assert "out" not in names
    assert ".hidden" not in names
    assert listed["parent"] == ""
    inner = client.get("/v1/folders", params={"path": str(photos)}).json()
    assert inner["parent"] == str(tmp_path)
    assert client.get("/v1/folders", params={"path": str(tmp_path / "nothing")}).status_code == 404


def test_unknown_jobs_are_not_found(client, refused):
    for ask in (client.get, client.delete):
        refused(ask("/v1/index/nothing"), 404, "NotFoundError")
    refused(client.post("/v1/index/nothing/resume"), 404, "NotFoundError")
    refused(client.get("/v1/index/nothing/events"), 404, "NotFoundError")


def test_without_a_model_it_says_what_is_missing(serve, tmp_path, photos):
    client = serve(tmp_path / "index", model=None, roots=(tmp_path,))
    job = _end(client, _begin(client, photos))
    assert job["state"] == "failed"
    assert "--model" in job["error"]
