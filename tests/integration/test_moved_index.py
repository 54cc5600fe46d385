"""An index on another machine: with its repository beside it, or alone with a Triton."""

import shutil

import pytest
from vireo_client.bundle import Bundle
from vireo_client.errors import SearchIndexError
from vireo_client.index import IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.search import SearchClient, open_embedder

QUERY = "hai con cá màu đỏ"


@pytest.fixture(scope="module")
def indexed(repository, test_records, tmp_path_factory):
    """A folder with a repository and an index made with it, and the hits of a query."""
    folder = tmp_path_factory.mktemp("indexed")
    shutil.copytree(repository.folder, folder / "model_repository")
    bundle = Bundle(folder / "model_repository")
    with open_embedder(bundle, None) as embedder, IndexWriter(folder / "index", bundle) as writer:
        index_images(writer, embedder, test_records[:12])
    with SearchClient(folder / "index") as client:
        return folder, [match.path for match in client.search(QUERY, k=5)]


def test_an_index_that_moved_with_its_repository_is_searched(indexed, tmp_path, monkeypatch):
    folder, expected = indexed
    shutil.copytree(folder, tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    with SearchClient("there/index") as client:
        assert client._embedder.bundle.folder == tmp_path / "there" / "model_repository"
        assert [match.path for match in client.search(QUERY, k=5)] == expected


def test_an_index_alone_is_searched_through_triton(
    indexed, triton, test_records, tmp_path, monkeypatch
):
    folder, expected = indexed
    shutil.copytree(folder / "index", tmp_path / "there" / "index")
    monkeypatch.chdir(tmp_path)
    with SearchClient("there/index", triton=triton.url) as client:
        assert [match.path for match in client.search(QUERY, k=5)] == expected
        image = test_records[3].path
        assert client.search_by_image(image, k=1)[0].path == str(image.resolve())
    with pytest.raises(SearchIndexError, match="give its folder with --model"):
        SearchClient("there/index")
    with SearchClient("there/index", model=folder / "model_repository") as client:
        assert [match.path for match in client.search(QUERY, k=5)] == expected


def test_a_client_finds_what_is_indexed_while_it_runs(indexed, repository, test_records, tmp_path):
    folder, _ = indexed
    shutil.copytree(folder, tmp_path / "there")
    index, image = tmp_path / "there" / "index", test_records[20].path
    with SearchClient(index) as client:
        assert not client.refresh()
        with open_embedder(repository, None) as embedder:
            with IndexWriter(index, repository) as writer:
                index_images(writer, embedder, test_records[20:21])
        assert client.search_by_image(image, k=1)[0].path == str(image.resolve())
        assert not client.refresh()
