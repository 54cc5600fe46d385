"""Texts of concurrent tasks run together in this process, and each task gets its own."""

import asyncio
import threading

import numpy as np
import pytest
from vireo_client.errors import ServerError
from vireo_client.towers.joined import JoinedTowers
from vireo_client.towers.onnx import OnnxTowers


class _Noting:
    """Real towers, which note the sizes of batches and may hold them up."""

    max_batch_size = 8

    def __init__(self, towers):
        self._towers = towers
        self.sizes = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def encode_text(self, ids):
        self.sizes.append(len(ids))
        self.entered.set()
        assert self.go.wait(60)
        return self._towers.encode_text(ids)

    def encode_image(self, pixels):
        return self._towers.encode_image(pixels)


@pytest.fixture
def noting(repository):
    towers = OnnxTowers.from_repository(repository)
    yield _Noting(towers)
    towers.close()


def _ids(*rows):
    return np.array(rows, dtype=np.int32)


def test_those_that_come_meanwhile_run_together(noting):
    async def run():
        joined = JoinedTowers(noting)
        noting.go.clear()
        first = asyncio.create_task(joined.encode_text(_ids([3, 4, 5, 0])))
        await asyncio.to_thread(noting.entered.wait, 60)
        others = [
            asyncio.create_task(joined.encode_text(_ids([3, n % 5 + 1, 2, 0]))) for n in range(8)
        ]
        await asyncio.sleep(0)
        noting.go.set()
        found = await asyncio.gather(first, *others)
        await joined.close()
        return found

    first, *others = asyncio.run(run())
    assert noting.sizes == [1, 8]
    alone = noting._towers.encode_text(_ids([3, 4, 5, 0]))
    np.testing.assert_allclose(first, alone, atol=1e-6)
    for number, vector in enumerate(others):
        expected = noting._towers.encode_text(_ids([3, number % 5 + 1, 2, 0]))
        np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_images_are_embedded_beside(noting, repository):
    pixels = np.zeros((2, 3, *[repository.config.image.size] * 2), dtype=np.uint8)

    async def run():
        joined = JoinedTowers(noting)
        found = await joined.encode_image(pixels)
        await joined.close()
        return found

    np.testing.assert_allclose(asyncio.run(run()), noting.encode_image(pixels), atol=1e-6)


def test_who_waits_when_it_is_closed_gets_an_error(noting):
    async def run():
        joined = JoinedTowers(noting)
        noting.go.clear()
        waiting = asyncio.create_task(joined.encode_text(_ids([3, 4, 5, 0])))
        await asyncio.to_thread(noting.entered.wait, 60)
        later = asyncio.create_task(joined.encode_text(_ids([3, 4, 5, 1])))
        await asyncio.sleep(0)
        closing = asyncio.create_task(joined.close())
        await asyncio.sleep(0)
        noting.go.set()
        await closing
        return await asyncio.gather(waiting, later, return_exceptions=True)

    assert {type(error) for error in asyncio.run(run())} == {ServerError}
