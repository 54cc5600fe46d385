"""An index that is written, removed, damaged or replaced while it is served: said, and gone on."""

import os
import shutil

import pytest
from support.bundles import write_repository
from support.clients import write_photo_index
from vireo_client.async_embedder import TowersEmbedder
from vireo_client.errors import SearchIndexError
from vireo_client.index import IndexWriter
from vireo_client.ranking import Ranking
from vireo_client.search import SearchClient


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    """Try to open again at once: these tests ask as soon as something has changed."""
    monkeypatch.setattr("vireo_web.kept.PAUSE", 0.0)


def _search(client):
    return client.get("/v1/search", params={"q": "ảnh", "k": 50})


def test_what_is_saved_is_found_and_the_generation_moves(folder, serve, repository):
    client = serve(folder)
    before = _search(client)
    with IndexWriter(folder, repository) as writer:
        writer.remove([next(iter(writer.stamps()))])
        writer.save()
    after = _search(client)
    assert len(after.json()["matches"]) == len(before.json()["matches"]) - 1
    assert int(after.headers["x-vireo-generation"]) > int(before.headers["x-vireo-generation"])
    assert client.get("/v1/info").json()["index"]["images"] == 5


def test_an_index_that_was_removed_is_told_until_it_is_back(folder, serve, refused):
    client = serve(folder)
    assert _search(client).status_code == 200
    folder.rename(folder.with_name("away"))
    answer = _search(client)
    refused(answer, 503, "SearchIndexError")
    assert answer.headers["retry-after"]
    assert client.get("/v1/info").json()["state"] == "no-index"
    refused(client.get("/v1/images/1"), 503)
    refused(client.get("/readyz"), 503)
    assert client.get("/healthz").status_code == 200
    folder.with_name("away").rename(folder)
    assert _search(client).status_code == 200
    assert client.get("/v1/info").json()["state"] == "ready"


def test_an_error_of_a_whole_index_closes_nothing(folder, serve, refused):
    """An index of an older schema has no metadata to filter by, and all else works."""
    client = serve(folder)
    assert _search(client).status_code == 200
    library = client.app.state.vireo.library
    index, embedder = library._index.opened(), library._embedder.opened()

    def fails(_):
        raise SearchIndexError("was written before images had metadata")

    with pytest.raises(SearchIndexError, match="metadata"):
        client.portal.call(library.read, fails)
    assert library._index.opened() is index
    assert library._embedder.opened() is embedder


def test_an_index_that_was_made_anew_is_followed(folder, serve, repository, tmp_path):
    client = serve(folder)
    assert len(_search(client).json()["matches"]) == 6
    shutil.rmtree(folder)
    with IndexWriter(folder, repository) as writer:
        writer.save()
    assert _search(client).json()["matches"] == []


def test_an_index_of_another_model_is_opened_with_that_model(tmp_path, serve):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        repository = write_repository(tmp_path / name / "model_repository", f"bundle-{name}")
        write_photo_index(tmp_path / name, repository)
    folder = tmp_path / "one" / "index"
    client = serve(folder, model=None)
    assert client.get("/v1/info").json()["model"]["id"] == "bundle-one"
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "other" / "index", folder)
    shutil.rmtree(tmp_path / "one" / "model_repository")
    shutil.copytree(tmp_path / "other" / "model_repository", tmp_path / "one" / "model_repository")
    assert _search(client).status_code == 200
    assert client.get("/v1/info").json()["model"]["id"] == "bundle-other"


def test_a_query_never_meets_an_index_of_another_model(tmp_path, serve, monkeypatch):
    """The index is replaced after the query was embedded, and before it is searched."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        repository = write_repository(tmp_path / name / "model_repository", f"bundle-{name}")
        write_photo_index(tmp_path / name, repository)
    folder = tmp_path / "one" / "index"
    client = serve(folder, model=None)
    assert _search(client).status_code == 200
    embed = TowersEmbedder.embed_texts

    async def embed_and_replace(self, texts):
        vectors = await embed(self, texts)
        if folder.exists() and self.bundle.bundle_id == "bundle-one":
            shutil.rmtree(folder)
            (tmp_path / "other" / "index").rename(folder)
            for part in ("one", "other"):
                (tmp_path / part / "model_repository").rename(tmp_path / f"{part}-model")
            (tmp_path / "other-model").rename(tmp_path / "one" / "model_repository")
        return vectors

    monkeypatch.setattr(TowersEmbedder, "embed_texts", embed_and_replace)
    answered = []
    images = Ranking.images
    monkeypatch.setattr(
        Ranking, "images", lambda r, *a, **o: (images(r, *a, **o), answered.append(r))[0]
    )
    answer = _search(client)
    assert answer.status_code == 200
    assert len(answered) == 1  # what the first model embedded was not looked for
    with SearchClient(folder) as found:
        assert answer.json()["matches"][0]["path"] == found.search("ảnh", 1).paths[0]


def test_a_model_that_does_not_fit_is_told(folder, serve, tmp_path, refused):
    other = write_repository(tmp_path / "other", "another-bundle")
    client = serve(folder, model=other.folder)
    problem = refused(_search(client), 503, "SearchIndexError")
    assert "another-bundle" in problem["detail"]
    info = client.get("/v1/info").json()
    assert info["state"] == "damaged"
    assert "another-bundle" in info["detail"]


@pytest.mark.parametrize("damage", ["catalogue", "segments"])
def test_a_damaged_index_is_told_and_the_server_lives(folder, serve, refused, damage):
    client = serve(folder)
    assert _search(client).status_code == 200
    if damage == "catalogue":
        (folder / "catalogue.sqlite").unlink()
        (folder / "catalogue.sqlite").write_bytes(b"no database at all" * 100)
    else:
        (folder / "catalogue.sqlite").rename(folder / "aside")  # a new file, which is opened anew
        shutil.copy(folder / "aside", folder / "catalogue.sqlite")
        for file in folder.glob("segments/*.npy"):
            os.truncate(file, 10)
    refused(_search(client), 503, "SearchIndexError")
    assert client.get("/v1/info").json()["state"] == "damaged"
    assert client.get("/healthz").status_code == 200


def test_without_its_model_an_index_can_still_be_looked_at(tmp_path, serve, refused):
    (tmp_path / "made").mkdir()
    repository = write_repository(tmp_path / "made" / "model_repository")
    folder = write_photo_index(tmp_path / "made", repository)
    shutil.rmtree(repository.folder)
    client = serve(folder, model=None)
    info = client.get("/v1/info").json()
    assert info["state"] == "no-model"
    assert "--model" in info["detail"]
    refused(_search(client), 503, "SearchIndexError")
    assert client.get("/v1/images/1").status_code == 200
    assert client.get("/v1/search", params={"image_id": 1}).status_code == 200
