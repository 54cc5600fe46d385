"""Embeddings over HTTP: our own form, and that of OpenAI with its own client."""

import base64

import numpy as np
import pytest
from vireo_client.search import SearchClient
from vireo_web.settings import Limits

TEXTS = ["hai con chó", "một con mèo ngủ"]


@pytest.fixture(scope="module")
def expected(made):
    with SearchClient(made) as client:
        yield client.embed_texts(TEXTS)


def test_texts_and_images_are_embedded_as_the_client_does(client, expected, made):
    answer = client.post("/v1/embed/text", json={"texts": TEXTS}).json()
    np.testing.assert_allclose(answer["embeddings"], expected, atol=1e-6)
    assert answer["dim"] == expected.shape[1]
    paths = [made.parent / "photos" / f"{number}.png" for number in (1, 4)]
    files = [("image", (path.name, path.read_bytes())) for path in paths]
    got = client.post("/v1/embed/image", files=files).json()["embeddings"]
    with SearchClient(made) as found:
        np.testing.assert_allclose(got, found.embed_images(paths), atol=1e-6)


def test_as_openai_asks(client, expected):
    asked = {"input": TEXTS, "model": "vireo", "encoding_format": "base64", "user": "lan"}
    body = client.post("/v1/embeddings", json=asked).json()
    assert body["object"] == "list"
    assert [one["index"] for one in body["data"]] == [0, 1]
    got = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in body["data"]]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert body["usage"]["prompt_tokens"] == body["usage"]["total_tokens"] > 0
    single = client.post("/v1/embeddings", json={"input": TEXTS[0], "model": "vireo"}).json()
    np.testing.assert_allclose(single["data"][0]["embedding"], expected[0], atol=1e-6)


def test_the_client_of_openai_reads_it(client, expected):
    openai = pytest.importorskip("openai", reason="needs the openai package")
    with openai.OpenAI(
        base_url="http://127.0.0.1/v1",
        api_key="none",
        max_retries=0,
        http_client=client,  # which passes its requests to the application
    ) as theirs:
        (model,) = theirs.models.list().data
        for name, form in ((model.id, "float"), ("vireo", None)):
            options = {} if form is None else {"encoding_format": form}
            got = theirs.embeddings.create(model=name, input=TEXTS, **options)
            np.testing.assert_allclose([d.embedding for d in got.data], expected, atol=1e-6)
        with pytest.raises(openai.NotFoundError):
            theirs.embeddings.create(model="text-embedding-3-small", input="chó")
        with pytest.raises(openai.UnprocessableEntityError):
            theirs.embeddings.create(model="vireo", input="")


@pytest.mark.parametrize(
    "asked",
    [
        {"input": []},
        {"input": [""]},
        {"input": "a" * 5_000},
        {"input": [1, 2, 3]},
        {"input": "chó", "dimensions": 3},
        {"input": "chó", "encoding_format": "int8"},
        {"input": ["chó"] * 1000},
        {},
    ],
)
def test_what_cannot_be_embedded_is_refused(client, refused, asked):
    refused(client.post("/v1/embeddings", json={"model": "vireo", **asked}), 422)


def test_too_many_are_refused(serve, made, refused):
    client = serve(made, limits=Limits(texts=2, images=1))
    refused(client.post("/v1/embed/text", json={"texts": ["a"] * 3}), 422, "DataError")
    refused(client.post("/v1/embed/text", json={"texts": []}), 422)
    two = [("image", ("x.png", b"x"))] * 2
    refused(client.post("/v1/embed/image", files=two), 422, "DataError")
