"""Both clients through a real Triton, against the same towers in process."""

import asyncio
from functools import partial

import numpy as np
import pytest
from PIL import Image
from support.clients import CLIENTS, assert_near, open_client, write_photo_index
from vireo_client.aio import AsyncSearchClient
from vireo_client.search import SearchClient
from vireo_client.towers.connection import ConnectionOptions

TEXTS = ["hai con chó", "con cá màu đỏ ở bên trái", "một con mèo", "xe", "ba bông hoa màu vàng"]


@pytest.fixture(scope="module")
def made(repository, tmp_path_factory):
    return write_photo_index(tmp_path_factory.mktemp("made"), repository)


@pytest.fixture(params=CLIENTS)
def client(request, made, triton):
    with open_client(request.param, made, triton=triton.url) as client:
        yield client


_near = partial(assert_near, most=1e-4)


def test_they_answer_as_in_process(client, made):
    photos = sorted((made.parent / "photos").iterdir())
    with SearchClient(made) as local:
        _near(client.search(TEXTS[0], 6), local.search(TEXTS[0], 6))
        for ours, theirs in zip(
            client.search_many(TEXTS * 20, 6), local.search_many(TEXTS * 20, 6), strict=True
        ):
            _near(ours, theirs)
        mixed = {"image": photos[2], "weights": (0.3, 0.7), "k": 6}
        _near(client.search(TEXTS[1], **mixed), local.search(TEXTS[1], **mixed))
        _near(client.describe(photos[1], 6), local.describe(photos[1], 6))
        images = [*photos, Image.new("RGB", (50, 40), "red")] * 20
        assert np.abs(client.embed_images(images) - local.embed_images(images)).max() < 1e-4


def test_they_add_through_the_server(made, triton, tmp_path, repository, photo):
    (tmp_path / "own").mkdir()
    folder = write_photo_index(tmp_path / "own", repository)
    for kind in CLIENTS:
        with open_client(kind, folder, triton=triton.url) as client:
            path = photo(f"{kind}.png", seed=len(kind))
            assert client.add([path], captions=["một ảnh mới"]).added == 1
            assert client.search_by_image(path, 1)[0].path == str(path.resolve())
            assert client.remove([path]) == 1


def test_many_tasks_share_a_client_and_some_are_cancelled(made, triton):
    async def ask():
        options = ConnectionOptions(request_timeout=60)
        async with AsyncSearchClient(made, triton=triton.url, connection=options) as client:
            alone = [await client.search(text, 6) for text in TEXTS]
            tasks = [asyncio.create_task(client.search(text, 6)) for text in TEXTS * 60]
            for task in tasks[::7]:
                await asyncio.sleep(0)
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(matches, asyncio.CancelledError) for matches in found) > 0
            for number, matches in enumerate(found):
                if not isinstance(matches, asyncio.CancelledError):
                    _near(matches, alone[number % len(TEXTS)])
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.search_many(TEXTS * 200), 0.001)
            _near(await client.search(TEXTS[0], 6), alone[0])

    asyncio.run(ask())
