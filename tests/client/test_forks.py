"""A process that has searched forks; its children search too, as under a server that preloads."""

import json

import numpy as np
import pytest
from PIL import Image
from support.processes import in_fork
from vireo_client.embedder import Embedder
from vireo_client.index import Index, IndexWriter
from vireo_client.indexing.pipeline import index_images
from vireo_client.indexing.sources import list_images
from vireo_client.search import SearchClient
from vireo_client.towers import engine
from vireo_client.towers.onnx import OnnxTowers


@pytest.fixture(scope="module")
def folder(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("forks")
    (folder / "photos").mkdir()
    for number in range(6):
        Image.new("RGB", (40, 30), (40 * number, 90, 200)).save(folder / f"photos/{number}.png")
    records, _ = list_images(folder / "photos")
    with (
        Embedder(repository, OnnxTowers.from_repository(repository)) as embedder,
        IndexWriter(folder / "index", repository) as writer,
    ):
        index_images(writer, embedder, records)
    return folder


def test_many_queries_at_once_leave_no_child_waiting(folder, repository):
    """FAISS runs them on threads of OpenMP."""
    with Index(folder / "index", repository) as index:
        shape = (500, repository.config.embedding_dim)
        queries = np.random.default_rng(0).random(shape, dtype=np.float32)

        def search():
            return [[m.path for m in matches] for matches in index.search_images(queries, 3)]

        assert search() == in_fork(search)


def _search(client, photo):
    return [
        [(match.path, round(match.score, 4)) for match in matches]
        for matches in (client.search("hai con chó"), client.search_by_image(photo),
                        client.describe(photo))
    ]  # fmt: skip


def test_a_child_searches_as_its_parent_does(folder):
    photo = folder / "photos" / "3.png"
    with SearchClient(folder / "index") as client:
        here = _search(client, photo)
        for _ in range(3):
            assert in_fork(lambda: _search(client, photo)) == json.loads(json.dumps(here))
        grandchild = in_fork(
            lambda: [_search(client, photo), in_fork(lambda: _search(client, photo))]
        )
        assert grandchild == json.loads(json.dumps([here, here]))
        assert _search(client, photo) == here  # the parent goes on


def test_a_child_may_close_what_it_never_used(folder):
    photo = folder / "photos" / "3.png"
    with SearchClient(folder / "index") as client:
        here = _search(client, photo)
        in_fork(client.close)
        assert _search(client, photo) == here


def test_a_child_may_be_the_first_to_search(folder):
    photo = folder / "photos" / "3.png"
    with SearchClient(folder / "index") as client:
        there = in_fork(lambda: _search(client, photo))
        assert there == json.loads(json.dumps(_search(client, photo)))


def test_towers_on_several_threads_run_in_a_child(repository, monkeypatch):
    monkeypatch.setattr(engine, "LEAST_SECONDS", 0)  # two sessions for the smallest tower
    towers = OnnxTowers.from_repository(repository, threads=4)
    pixels = np.zeros((64, 3, 32, 32), dtype=np.uint8)

    def run():
        return [towers.encode_image(pixels[:n]).round(4).tolist() for n in (1, 64)]

    assert in_fork(run) == run() == in_fork(run)
    towers.close()
