"""What only the asynchronous client does; `test_search_client.py` and its neighbours test both."""

import asyncio
import inspect
import threading

import numpy as np
import pytest
from PIL import Image
from support.clients import write_photo_index
from vireo_client.aio import AsyncSearchClient
from vireo_client.async_embedder import TowersEmbedder
from vireo_client.embedder import Embedder
from vireo_client.errors import (
    DataError,
    ImageError,
    SearchIndexError,
    ServerUnavailable,
    VireoError,
)
from vireo_client.search import SearchClient
from vireo_client.towers.onnx import OnnxTowers


def _verbs(kind):
    members = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(m) for name, m in members if not name.startswith("_")}


def test_both_clients_have_the_same_verbs_with_the_same_arguments():
    one, other = _verbs(SearchClient), _verbs(AsyncSearchClient)
    one.pop("after_fork")  # an event loop does not go into a child
    assert one == other
    assert "search_many" in one
    for name in other:
        assert inspect.iscoroutinefunction(getattr(AsyncSearchClient, name)), name
    assert inspect.signature(SearchClient) == inspect.signature(AsyncSearchClient)


class _Awaited:
    """Awaited towers around real ones, which note and may hold up what they are given."""

    max_batch_size = 3

    def __init__(self, towers):
        self._towers = towers
        self.sizes = []
        self.hold = None
        self.cancelled = 0
        self.closed = False

    async def _run(self, encode, values):
        assert len(values) <= self.max_batch_size
        self.sizes.append(len(values))
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return encode(values)

    async def encode_text(self, ids):
        return await self._run(self._towers.encode_text, ids)

    async def encode_image(self, pixels):
        return await self._run(self._towers.encode_image, pixels)

    async def close(self):
        self.closed = True


@pytest.fixture
def towers(repository):
    towers = OnnxTowers.from_repository(repository)
    yield _Awaited(towers)
    towers.close()


def test_awaited_towers_embed_as_those_in_process(repository, towers, made):
    texts = ["xe", "hai con chó trên bãi cỏ", "mèo", "một người", "biển xanh và trời xanh" * 9] * 4
    photos = [*sorted((made.parent / "photos").iterdir()), np.zeros((9, 7, 3), np.uint8)]

    async def embed():
        embedder = TowersEmbedder(repository, towers)
        empty = await embedder.embed_texts([]), await embedder.embed_images([])
        result = await embedder.embed_texts(texts), await embedder.embed_images(photos)
        await embedder.close()
        return (*result, *empty)

    found_texts, found_images, *empty = asyncio.run(embed())
    with Embedder(repository, OnnxTowers.from_repository(repository)) as embedder:
        assert np.abs(found_texts - embedder.embed_texts(texts)).max() < 1e-5
        assert np.abs(found_images - embedder.embed_images(photos)).max() < 1e-5
    dim = repository.config.embedding_dim
    assert [array.shape for array in empty] == [(0, dim), (0, dim)]
    assert towers.closed


def test_awaited_towers_name_what_is_wrong(repository, towers, tmp_path):
    async def embed(texts, images):
        embedder = TowersEmbedder(repository, towers)
        await (embedder.embed_texts(texts) if texts else embedder.embed_images(images))

    with pytest.raises(DataError, match="text 9: holds no text"):
        asyncio.run(embed(["xe"] * 9 + ["👍"], None))
    with pytest.raises(ImageError, match="image 1: not a readable image"):
        asyncio.run(embed(None, [Image.new("RGB", (4, 4)), b"x"]))
    with pytest.raises(ImageError, match=r"gone\.jpg: no such file"):
        asyncio.run(embed(None, [tmp_path / "gone.jpg"]))


def test_an_error_or_a_cancelled_task_cancels_all_of_its_requests(repository, towers):
    async def embed():
        towers.hold = asyncio.Event()
        embedder = TowersEmbedder(repository, towers)
        task = asyncio.create_task(embedder.embed_texts(["xe"] * 9))
        while len(towers.sizes) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert towers.cancelled == 3
        images = [Image.new("RGB", (4, 4))] * 3 + [b"x"]
        with pytest.raises(ImageError):
            await embedder.embed_images(images)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(embed())


def test_tasks_share_a_client(made):
    photos = sorted((made.parent / "photos").iterdir())

    async def ask():
        async with AsyncSearchClient(made) as client:
            asked = [client.search_by_image(photo, 1) for photo in photos * 5]
            return await asyncio.gather(client.search("xe", 6), *asked, client.search("xe", 6))

    first, *found, last = asyncio.run(ask())
    assert [m[0].path for m in found] == [str(photo.resolve()) for photo in photos * 5]
    assert [m.path for m in first] == [m.path for m in last]


def test_it_opens_once_at_its_first_use(made, monkeypatch):
    opened = []
    plain = AsyncSearchClient._open_index
    monkeypatch.setattr(
        AsyncSearchClient, "_open_index", lambda self: opened.append(1) or plain(self)
    )

    async def ask():
        client = AsyncSearchClient(made)
        assert not opened
        first = asyncio.create_task(client.search("xe"))
        others = [asyncio.create_task(client.search("xe")) for _ in range(4)]
        while not opened:
            await asyncio.sleep(0.001)
        first.cancel()  # the others wait for what it began
        assert [len(matches) for matches in await asyncio.gather(*others)] == [6] * 4
        await client.close()

    asyncio.run(ask())
    assert opened == [1]


def test_an_index_that_comes_later_is_opened_then(repository, tmp_path):
    async def ask():
        client = AsyncSearchClient(tmp_path / "index", model=repository.folder)
        with pytest.raises(SearchIndexError, match="no index here"):
            await client.search("xe")
        await asyncio.to_thread(write_photo_index, tmp_path, repository)
        assert len(await client.search("xe")) == 6
        await client.close()
        with pytest.raises(SearchIndexError, match="closed"):
            await client.search("xe")

    asyncio.run(ask())


def test_a_client_that_is_closed_while_it_opens_leaves_nothing_open(made):
    async def ask():
        client = AsyncSearchClient(made)
        asking = asyncio.create_task(client.search("xe"))
        await asyncio.sleep(0)
        opening = client._opened
        await client.close()
        with pytest.raises(VireoError, match="closed"):
            await asking
        opened = await opening
        with pytest.raises(SearchIndexError, match="closed"):
            opened.index.refresh()
        with pytest.raises(VireoError, match="closed"):
            await opened.embedder.embed_images([Image.new("RGB", (4, 4))])

    asyncio.run(ask())


def test_a_client_that_cannot_open_can_be_closed_meanwhile(tmp_path):
    async def ask():
        client = AsyncSearchClient(tmp_path / "none")
        asking = asyncio.create_task(client.search("xe"))
        await asyncio.sleep(0)
        await client.close()  # the error is for the one who asked
        with pytest.raises(SearchIndexError, match="no index here"):
            await asking

    asyncio.run(ask())


def test_a_server_that_is_not_there_is_the_same_error(made, monkeypatch):
    from vireo_client.towers.aio import AsyncTritonTowers

    closed = []
    close = AsyncTritonTowers.close
    monkeypatch.setattr(AsyncTritonTowers, "close", lambda self: closed.append(1) or close(self))

    async def ask():
        async with AsyncSearchClient(made, triton="127.0.0.1:9"):
            pass

    with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:9"):
        asyncio.run(ask())
    assert closed


def test_short_searches_run_in_the_loop_and_long_ones_in_threads(made):
    async def ask(seconds, texts, **options):
        async with AsyncSearchClient(made) as client:
            await client.search("xe")
            client._seconds = seconds
            where = []
            ranking = (await client._open()).ranking
            plain = ranking.images
            ranking.images = lambda *a, **o: (
                where.append(threading.current_thread()) or plain(*a, **o)
            )
            await client.search_many(texts, 3, **options)
            return where[0] is threading.main_thread()

    assert asyncio.run(ask(1e-5, ["xe"]))
    assert asyncio.run(ask(1e-5, ["xe"], filter=None, exact=False))
    assert not asyncio.run(ask(1e-5, ["xe"], filter="bytes > 0"))
    assert not asyncio.run(ask(1e-5, ["xe"], hybrid=True))
    assert not asyncio.run(ask(1e-5, ["xe"] * 200))
    assert not asyncio.run(ask(0.01, ["xe"]))


def test_the_time_of_a_search_is_kept(made):
    async def ask():
        async with AsyncSearchClient(made) as client:
            assert client._seconds == float("inf")
            await client.search("xe")
            return client._seconds

    assert 0 <= asyncio.run(ask()) < 10


def test_a_long_text_does_not_hold_up_the_loop(repository, monkeypatch):
    threads = []
    ids = TowersEmbedder._ids
    monkeypatch.setattr(
        TowersEmbedder, "_ids", lambda s, t: (threads.append(threading.get_ident()), ids(s, t))[1]
    )
    towers = OnnxTowers.from_repository(repository)

    async def run():
        embedder = TowersEmbedder(repository, _Awaited(towers))
        for texts in (["hai con chó"], ["hai con chó " * 200]):
            await embedder.embed_texts(texts)
        return threading.get_ident()

    loop = asyncio.run(run())
    towers.close()
    assert threads[0] == loop
    assert threads[1] != loop
