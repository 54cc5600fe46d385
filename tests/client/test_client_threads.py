"""One client that threads share."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.clients import CLIENTS, assert_near, open_client
from vireo_client.errors import VireoError
from vireo_client.search import SearchClient


def test_threads_share_a_client(made):
    """Each of 8 threads asks for all images in an order of its own."""
    photos = sorted((made.parent / "photos").iterdir())
    with SearchClient(made) as client:
        alone = {path: client.search_by_image(path, 6) for path in photos}
        text = client.search("hai con chó", 6)
        barrier = threading.Barrier(8)

        def ask(seed):
            barrier.wait(30)
            for path in np.random.default_rng(seed).permutation(photos):
                assert_near(client.search_by_image(path, 6), alone[path])
                assert_near(client.search("hai con chó", 6), text)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(8)))


def test_threads_search_while_one_adds_and_removes(folder, repository, photo):
    """An image is found by itself as long as it is there; the six others always."""
    photos = sorted((folder.parent / "photos").iterdir())
    with SearchClient(folder, model=repository.folder) as client:
        stop = threading.Event()
        expected = {path: client.search_by_image(path, 1)[0].path for path in photos}

        def ask():
            count = 0
            while not stop.is_set() or count < 3:
                for path in photos:
                    (match,) = client.search_by_image(path, 1)
                    assert (match.path, round(match.score, 3)) == (expected[path], 1)
                count += 1
            return count

        with ThreadPoolExecutor(3) as threads:
            asking = [threads.submit(ask) for _ in range(3)]
            try:
                for number in range(5):
                    path = photo(f"{number}.png", seed=100 + number)
                    assert client.add([path], captions=["ảnh"]).added == 1
                    assert client.search_by_image(path, 1)[0].path == str(path.resolve())
                    assert client.remove([path]) == 1
                    assert client.search_by_image(path, 1)[0].path != str(path.resolve())
            finally:
                stop.set()
            assert all(done.result(60) >= 3 for done in asking)


def test_threads_that_add_wait_for_each_other(folder, repository, photo):
    with SearchClient(folder, model=repository.folder) as client:
        paths = [photo(f"{number}.png", seed=100 + number) for number in range(4)]
        with ThreadPoolExecutor(4) as threads:
            reports = list(threads.map(lambda path: client.add([path]), paths))
        assert [report.added for report in reports] == [1] * 4
        assert len(client.search("xe", 100)) == 10


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_that_is_closed_under_its_threads_says_so(made, kind):
    photo = made.parent / "photos" / "3.png"
    started = threading.Barrier(7)
    with open_client(kind, made) as client, ThreadPoolExecutor(6) as threads:

        def ask(number):
            started.wait(30)
            while True:
                try:
                    client.search_by_image(photo) if number % 2 else client.search("xe")
                except VireoError as error:
                    return str(error)

        errors = [threads.submit(ask, number) for number in range(6)]
        started.wait(30)
        client.search("xe")
        client.close()
        assert all("closed" in error.result(60) for error in errors)
