"""Searches over HTTP give what the client finds."""

import base64
from pathlib import Path

import pytest
from vireo_client.search import SearchClient


@pytest.fixture(scope="module")
def found(made):
    with SearchClient(made) as client:
        yield client


def _paths(answer):
    assert answer.status_code == 200, answer.text
    return [match["path"] for match in answer.json()["matches"]]


def test_a_query_finds_what_the_client_finds(client, found):
    answer = client.get("/v1/search", params={"q": "ảnh số 3", "k": 4})
    matches = found.search("ảnh số 3", 4)
    body = answer.json()
    assert _paths(answer) == matches.paths
    first = body["matches"][0]
    assert first["score"] == pytest.approx(float(matches.scores[0]), abs=1e-5)
    assert first["rank"] == 1
    assert first["name"] == Path(first["path"]).name
    assert first["caption"] == f"ảnh số {Path(first['path']).stem}"
    assert (first["width"], first["height"]) == (80, 60)
    assert first["metadata"]["width"] == 80
    assert body["query"]["q"] == "ảnh số 3"
    assert answer.headers["x-vireo-generation"] == str(body["generation"])
    assert body["milliseconds"]["total"] >= body["milliseconds"]["search"]


def test_a_post_asks_the_same(client):
    asked = {"q": "ảnh số 3", "k": 4, "filter": "width > 10", "hybrid": True}
    assert _paths(client.post("/v1/search", json=asked)) == _paths(
        client.get("/v1/search", params=asked)
    )


def test_a_filter_and_words_narrow_the_matches(client):
    answer = client.get("/v1/search", params={"q": "ảnh", "filter": 'name = "4.png"'})
    assert [Path(path).name for path in _paths(answer)] == ["4.png"]
    words = client.get("/v1/search", params={"q": "số 5", "hybrid": 1, "k": 6})
    assert len(_paths(words)) == 6


def test_more_like_an_indexed_image(client):
    first = client.get("/v1/search", params={"q": "ảnh", "k": 1}).json()["matches"][0]
    like = client.get("/v1/search", params={"image_id": first["id"], "k": 3}).json()["matches"]
    assert like[0]["id"] == first["id"]
    assert like[0]["score"] == pytest.approx(1, abs=1e-5)
    assert like[0]["relevance"] is None


def test_an_uploaded_image_finds_itself_in_every_form(client, made):
    data = (made.parent / "photos" / "2.png").read_bytes()
    forms = [
        client.post("/v1/search/image", files={"image": ("x.png", data)}, data={"k": "2"}),
        client.post("/v1/search", json={"image": base64.b64encode(data).decode(), "k": 2}),
    ]
    for answer in forms:
        assert Path(_paths(answer)[0]).name == "2.png"


def test_text_and_image_count_by_their_weight(client, found, made):
    photo = made.parent / "photos" / "2.png"
    for weight in (0.0, 0.3, 1.0):
        answer = client.post(
            "/v1/search/image",
            files={"image": ("x.png", photo.read_bytes())},
            data={"q": "ảnh số 1", "text_weight": str(weight), "k": "6"},
        )
        expected = found.search("ảnh số 1", 6, image=photo, weights=(weight, 1 - weight))
        assert _paths(answer) == expected.paths


def test_sentences_describe_an_indexed_and_an_uploaded_image(client, made):
    data = (made.parent / "photos" / "2.png").read_bytes()
    uploaded = client.post("/v1/describe", files={"image": ("x.png", data)}, data={"k": "3"})
    first = client.post("/v1/search/image", files={"image": ("x.png", data)}).json()["matches"][0]
    indexed = client.get("/v1/describe", params={"image_id": first["id"], "k": 3})
    texts = [[s["text"] for s in answer.json()["sentences"]] for answer in (uploaded, indexed)]
    assert len(texts[0]) == 3
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "nothing to search for"),
        ({"q": ""}, "nothing to search for"),
        ({"q": "   "}, "nothing to search for"),
        ({"q": "a" * 10_000}, "10,000 characters"),
        ({"q": "chó", "k": 0}, "k"),
        ({"q": "chó", "k": 100_000}, "at most"),
        ({"q": "chó", "k": "many"}, "k"),
        ({"q": "chó", "filter": "width >"}, "filter"),
        ({"q": "chó", "filter": "nothing = 3"}, "nothing"),
        ({"q": "chó", "min_relevance": 2}, "min_relevance"),
        ({"q": "chó", "text_weight": -1}, "text_weight"),
        ({"q": "chó", "wrong": 1}, "wrong"),
        ({"hybrid": 1, "image_id": 1}, "hybrid"),
    ],
)
def test_what_cannot_be_asked_is_told(client, refused, params, says):
    problem = refused(client.get("/v1/search", params=params), 422)
    assert says in problem["detail"] + problem.get("hint", "")


def test_an_unknown_image_is_not_found(client, refused):
    refused(client.get("/v1/search", params={"image_id": 10**6}), 404, "NotFoundError")
    refused(client.get("/v1/describe", params={"image_id": 10**6}), 404, "NotFoundError")
    refused(client.get("/v1/search", params={"image_id": 10**30}), 422)


@pytest.mark.parametrize(
    "query", ["🐕🐈", "chó " * 400, "<script>alert(1)</script> chó", "\u202ea"]
)
def test_odd_queries_are_answered_or_refused_with_words(client, query):
    answer = client.get("/v1/search", params={"q": query})
    assert answer.status_code in (200, 422)
    if answer.status_code == 422:
        assert answer.json()["error"] == "DataError"


def test_many_at_once_are_joined_and_each_gets_its_own(client, found):
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"ảnh số {number % 6}" for number in range(40)]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda q: client.get("/v1/search", params={"q": q}), texts))
    expected = {text: found.search(text, 24).paths for text in set(texts)}
    assert [_paths(answer) for answer in answers] == [expected[text] for text in texts]
