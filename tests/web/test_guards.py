"""Who may ask, from where, and how much: each refusal, and that the rest passes."""

import pytest
from fastapi.testclient import TestClient
from vireo_web.app import create_app
from vireo_web.settings import Limits, Settings

KEY = "0123456789abcdef-key"


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:80", "192.168.1.7:99"])
def test_addresses_and_localhost_are_this_server(client, host):
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_another_name_is_refused(client, refused, host):
    refused(client.get("/v1/info", headers={"host": host}), 421, "WrongHostError")


def test_a_name_that_was_allowed_passes(serve, made):
    client = serve(made, hosts=("photos.example",))
    assert client.get("/v1/info", headers={"host": "photos.example:443"}).status_code == 200


def test_without_the_key_nothing_of_the_index_is_told(serve, made, refused):
    client = serve(made, keys=(KEY,))
    for path in ("/v1/info", "/v1/search?q=a", "/v1/images/1", "/metrics", "/openapi.json"):
        problem = refused(client.get(path), 401, "KeyRequiredError")
        assert KEY not in str(problem)
    wrong = client.get("/v1/info", headers={"Authorization": "Bearer 0123456789abcdef-kez"})
    assert "not known" in refused(wrong, 401)["detail"]
    assert wrong.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/healthz").status_code == 200


def test_with_the_key_all_is_answered(serve, made):
    client = serve(made, keys=("another-key-of-16-letters", KEY))
    answer = client.get("/v1/info", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.json()["key_required"] is True


def test_a_key_becomes_a_cookie_for_images(serve, made, refused):
    client = serve(made, keys=(KEY,))
    refused(client.post("/v1/session"), 401)
    begun = client.post("/v1/session", headers={"Authorization": f"Bearer {KEY}"})
    assert begun.status_code == 204
    cookie = begun.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/v1/images/1").status_code == 200
    assert client.delete("/v1/session").status_code == 204
    refused(client.get("/v1/images/1"), 401)


def test_a_page_of_another_site_may_not_write(client, refused):
    foreign = {"origin": "https://evil.example"}
    refused(client.post("/v1/index/x/resume", headers=foreign), 403, "NotAllowedError")
    own = client.post("/v1/index/x/resume", headers={"origin": "http://127.0.0.1"})
    refused(own, 404)


def test_other_origins_are_told_to_browsers_only_where_configured(serve, client, made):
    asked = {"origin": "https://photos.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/search", headers=asked).headers
    shared = serve(made, origins=("https://photos.example",))
    answer = shared.options("/v1/search", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://photos.example"
    posted = shared.post("/v1/search", json={"q": "a"}, headers={"origin": asked["origin"]})
    assert posted.headers["access-control-allow-origin"] == "https://photos.example"
    other = shared.get("/v1/search?q=a", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_every_answer_forbids_scripts_and_sniffing(client):
    for path in ("/v1/info", "/v1/images/1", "/v1/images/999", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_request_that_is_too_large_is_refused(serve, made, refused):
    client = serve(made, limits=Limits(body_bytes=10_000, upload_bytes=5_000))
    refused(client.post("/v1/search", json={"q": "a" * 20_000}), 413, "TooLargeError")

    def endless():
        for _ in range(100):
            yield b"x" * 1000

    unsized = client.post(
        "/v1/search", content=endless(), headers={"content-type": "application/json"}
    )
    refused(unsized, 413, "TooLargeError")
    image = {"image": ("x.png", b"x" * 6_000)}
    refused(client.post("/v1/search/image", files=image), 413, "TooLargeError")


def test_an_answer_that_takes_too_long_is_given_up(serve, made, refused, monkeypatch):
    import threading

    release = threading.Event()
    client = serve(made, limits=Limits(seconds=0.2))
    library = client.app.state.vireo.library
    client.portal.call(library.check)
    library._index.forget().index.close()
    real = library._open_files
    monkeypatch.setattr(library, "_open_files", lambda: (release.wait(30), real())[1])
    try:
        answer = client.get("/v1/search", params={"q": "a"})
        refused(answer, 503, "TooSlowError")
        assert answer.headers["retry-after"]
    finally:
        release.set()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"q": 3}', b'{"k": 1e9}']
)
def test_malformed_json_is_refused(client, refused, body):
    sent = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    refused(sent, 422)


def test_half_a_surrogate_pair_is_refused(client, refused):
    body = b'{"q": "\\ud83d"}'
    sent = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    refused(sent, 422)


def test_a_fault_is_a_problem_that_tells_nothing_of_itself(made, tmp_path, refused, monkeypatch):
    app = create_app(Settings(made, cache=tmp_path))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        monkeypatch.setattr(app.state.vireo.jobs, "get", lambda _: 1 / 0)
        problem = refused(client.get("/v1/index/x"), 500, "Fault")
        assert "division" not in str(problem)
        assert 'status="500"' in client.get("/metrics").text


def test_a_proxys_own_name_may_write(serve, made, refused):
    client = serve(made, hosts=("photos.example",))
    origin = {"origin": "https://photos.example"}
    refused(client.post("/v1/index/x/resume", headers=origin), 404)


def test_another_page_can_read_a_refusal(serve, made, refused):
    client = serve(made, keys=(KEY,), origins=("https://photos.example",))
    answer = client.get("/v1/info", headers={"origin": "https://photos.example"})
    refused(answer, 401)
    assert answer.headers["access-control-allow-origin"] == "https://photos.example"


def test_metrics_count_by_route_and_not_by_path(client):
    client.get("/v1/images/1/info")
    client.get("/v1/images/2/info")
    client.get("/made/up/path")
    text = client.get("/metrics").text
    line = 'vireo_web_requests_total{method="GET",route="/v1/images/{id}/info",status="200"} 2'
    assert line in text.splitlines()
    assert "made/up" not in text
    assert "vireo_client_stage_seconds" in text
