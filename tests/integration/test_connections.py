"""Connections to real Tritons that are killed, stopped, several, or on the same machine."""

import asyncio
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.processes import in_fork, run_python
from support.waiting import wait_until
from vireo_client.errors import ServerError, ServerTimeout, ServerUnavailable
from vireo_client.towers.aio import AsyncTritonTowers
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.tls import ClientTls
from vireo_client.towers.triton import TritonTowers
from vireo_serving.admin import GRPC_KEY_HEADER
from vireo_serving.server.options import ServerOptions, ServerTls
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

FREE = Ports(0, 0, 0)
CLIENTS = 8
IDS = np.full((2, 16), 5, dtype=np.int32)


@pytest.fixture(scope="module")
def servers(repository):
    """Two Tritons that tests may kill."""
    with (
        TritonServer(repository.folder, ports=FREE) as first,
        TritonServer(repository.folder, ports=FREE) as second,
    ):
        yield first, second


@pytest.fixture
def server(servers):
    return _alive(servers[0])


@pytest.fixture
def second(servers):
    return _alive(servers[1])


def _alive(server):
    if server.poll() is not None:  # a test before this one killed it
        server.restart("server")
    return server


def _signal(server, number):
    """Send a signal to Triton and its engines."""
    os.killpg(server._group, number)


class Load:
    """Eight clients that ask all the time, each in a thread; half of them are asyncio's."""

    def __init__(self, repository, url, options, **arguments):
        self.options = options
        self.answered = Counter()
        self.errors = []
        self.wrong = []
        self.longest = 0.0
        self._ended = threading.Event()
        self._expected = None
        self._open = lambda kind: kind(repository, url, options=options, **arguments)
        self._threads = [
            threading.Thread(target=self._ask if n % 2 else self._ask_asyncio, args=(n,))
            for n in range(CLIENTS)
        ]

    def __enter__(self):
        towers = self._open(TritonTowers)
        self._expected = towers.encode_text(IDS)
        towers.close()
        for thread in self._threads:
            thread.start()
        self.wait_for_answers()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join(120)
        assert not [thread.name for thread in self._threads if thread.is_alive()]

    def _ask(self, number):
        towers = self._open(TritonTowers)
        while not self._ended.is_set():
            self._record(number, time.monotonic(), lambda: towers.encode_text(IDS))
        towers.close()

    def _ask_asyncio(self, number):
        async def ask():
            towers = self._open(AsyncTritonTowers)
            while not self._ended.is_set():
                began = time.monotonic()
                try:
                    answer = await towers.encode_text(IDS)
                except Exception as error:
                    answer = error
                self._record(number, began, lambda given=answer: given)
            await towers.close()

        asyncio.run(ask())

    def _record(self, number, began, work):
        try:
            answer = work()
        except Exception as error:
            answer = error
        self.longest = max(self.longest, time.monotonic() - began)
        if isinstance(answer, Exception):
            self.errors.append((number, answer))
            self._ended.wait(0.05)  # while a server is away, errors come at once
        elif np.allclose(answer, self._expected, atol=1e-5):
            self.answered[number] += 1
        else:
            self.wrong.append(answer)

    def wait_for_answers(self):
        """Wait until each client has had some more right answers."""
        before = Counter(self.answered)
        wait_until(lambda: all(self.answered[n] > before[n] + 3 for n in range(CLIENTS)))

    def wait_until_it_goes_on(self, server):
        """Wait for answers of a Triton that was stopped.

        Triton 2.51 may crash where a client gave up while it was stopped; `vireo serve` starts it
        anew, as this does.
        """
        before = Counter(self.answered)

        def answered():
            if server.poll() is not None:
                server.restart("server")
            return all(self.answered[n] > before[n] + 3 for n in range(CLIENTS))

        wait_until(answered)

    def wait_for_errors(self):
        """Wait until each client has had an error."""
        wait_until(lambda: {number for number, _ in self.errors} == set(range(CLIENTS)))

    def check(self, *documented):
        """Check that all answers were right, all errors `documented`, and none came too late."""
        assert self.wrong == []
        assert {type(error) for _, error in self.errors} <= set(documented)
        # Twice the deadline leaves room for a machine that is busy with other work.
        assert self.longest < 2 * self.options.request_timeout + 10


def test_a_triton_that_is_killed_and_started_anew(server, repository):
    options = ConnectionOptions(request_timeout=20)
    with Load(repository, server.url, options) as load:
        _signal(server, signal.SIGKILL)
        load.wait_for_errors()
        server.restart("server")
        load.wait_for_answers()
    load.check(ServerUnavailable)


def test_a_triton_that_is_stopped_and_goes_on(server, repository):
    options = ConnectionOptions(request_timeout=2, connect_timeout=2)
    with Load(repository, server.url, options) as load:
        _signal(server, signal.SIGSTOP)
        try:
            load.wait_for_errors()
        finally:
            _signal(server, signal.SIGCONT)
        load.wait_until_it_goes_on(server)
    load.check(ServerUnavailable, ServerTimeout)


def test_of_two_tritons_one_is_killed_and_then_the_other(server, second, repository, caplog):
    caplog.set_level(logging.INFO, logger="vireo_client.towers.pool")
    urls = f"{server.url},{second.url}"
    options = ConnectionOptions(request_timeout=60, probe_interval=0.1)
    with Load(repository, urls, options) as load:
        _signal(second, signal.SIGKILL)
        for _ in range(3):
            load.wait_for_answers()
        wait_until(lambda: caplog.text.count(f"{second.url} is put aside") >= CLIENTS)
        second.restart("server")
        wait_until(lambda: caplog.text.count(f"{second.url} answers again") >= CLIENTS)
        _signal(server, signal.SIGKILL)
        load.wait_for_answers()
    load.check()
    assert load.errors == []


def test_of_two_tritons_one_is_stopped(server, second, repository):
    """Nothing closes its connections: pings find out that they are dead."""
    urls = [server.url, second.url]
    options = ConnectionOptions(
        request_timeout=100, connect_timeout=2, keepalive_time=1, keepalive_timeout=1
    )
    with Load(repository, urls, options) as load:
        _signal(second, signal.SIGSTOP)
        try:
            for _ in range(3):
                load.wait_for_answers()
        finally:
            _signal(second, signal.SIGCONT)
        load.wait_for_answers()
    load.check()
    assert load.errors == []
    assert load.longest < 100


def test_mutual_tls_with_two_servers_one_of_which_is_killed(repository, certificates):
    ca = certificates / "ca.pem"
    tls = ServerTls(certificates / "server.pem", certificates / "server.key", client_ca=ca)
    known = ClientTls(ca, certificates / "client.pem", certificates / "client.key")
    with (
        TritonServer(repository.folder, ports=FREE, options=ServerOptions(tls=tls)) as first,
        TritonServer(repository.folder, ports=FREE, options=ServerOptions(tls=tls)) as second,
    ):
        urls = [first.url, second.url]
        with Load(repository, urls, ConnectionOptions(), tls=known) as load:
            _signal(second, signal.SIGKILL)
            for _ in range(3):
                load.wait_for_answers()
        load.check()
        assert load.errors == []
        with pytest.raises(ServerError, match=r"Triton at .*; Triton at"):
            TritonTowers(repository, urls, tls=ClientTls(ca), connect_timeout=2)


def test_many_requests_leave_nothing_behind(triton, repository):
    done = run_python(
        "-m", "support.many_requests", repository.folder, triton.url, "--requests", 2000
    )
    assert done.returncode == 0, done.stderr
    *_, warm, _, _, last = json.loads(done.stdout)
    assert last["files"] <= warm["files"]
    # Between the two, 240 requests of 384 KiB: a leak of their pixels alone would be larger.
    assert last["bytes"] - warm["bytes"] < 8 * 2**20


def test_a_batch_above_a_messages_limit_is_split(triton, repository):
    size = repository.config.image.size
    pixels = np.random.default_rng(0).integers(0, 255, (64, 3, size, size), dtype=np.uint8)
    towers = TritonTowers(repository, triton.url)
    split = TritonTowers(repository, triton.url, options=ConnectionOptions(max_message_bytes=2**16))
    assert pixels.nbytes > 2 * 2**16
    assert np.allclose(split.encode_image(pixels), towers.encode_image(pixels), atol=1e-5)
    towers.close()
    split.close()


def test_a_server_tells_how_long_requests_waited_and_were_computed(triton, repository):
    with_times = []

    async def ask():
        async with AsyncTritonTowers(repository, triton.url) as towers:
            with_times.append(await towers.server_times())
            await towers.encode_text(np.full((1, 16), 7, dtype=np.int32))
            with_times.append(await towers.server_times())

    asyncio.run(ask())
    towers = TritonTowers(repository, triton.url)
    with_times.append(towers.server_times())
    towers.close()
    before, after, last = (times[triton.url]["text_encoder"] for times in with_times)
    assert after.requests == before.requests + 1
    assert after.queue_seconds > before.queue_seconds
    assert after.compute_seconds > before.compute_seconds
    assert last == after


def _shared(server, **options):
    headers = {GRPC_KEY_HEADER: server.options.admin_key}
    return ConnectionOptions(shared_memory="system", headers=headers, **options)


def _regions():
    """Return the regions of this process; others may run such tests, too."""
    return {path.name for path in Path("/dev/shm").glob(f"vireo_{os.getpid()}_client_*")}


@pytest.fixture
def pixels(repository):
    size = repository.config.image.size
    return np.random.default_rng(1).integers(0, 255, (32, 3, size, size), dtype=np.uint8)


def test_pixels_in_shared_memory_give_the_same_embeddings(triton, repository, pixels):
    assert not _regions()
    towers = TritonTowers(repository, triton.url)
    shared = TritonTowers(repository, triton.url, options=_shared(triton))
    expected = towers.encode_image(pixels)
    answers = {}

    def ask(number):
        part = pixels[number:]
        answers[number] = [np.allclose(shared.encode_image(part), expected[number:], atol=1e-5)
                           for _ in range(10)]  # fmt: skip

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert answers == {number: [True] * 10 for number in range(4)}
    assert 1 <= len(_regions()) <= 4

    async def ask_asyncio():
        async with AsyncTritonTowers(repository, triton.url, options=_shared(triton)) as towers:
            return await towers.encode_image(pixels)

    assert np.allclose(asyncio.run(ask_asyncio()), expected, atol=1e-5)
    shared.close()
    towers.close()
    assert not _regions()


def test_shared_memory_that_the_server_does_not_allow(triton, repository, pixels, caplog):
    with pytest.raises(
        ServerError, match=r"no shared memory: .*restricted.*shared_memory_fallback"
    ):
        TritonTowers(repository, triton.url, options=ConnectionOptions(shared_memory="system"))
    options = ConnectionOptions(shared_memory="system", shared_memory_fallback=True)
    towers = TritonTowers(repository, triton.url, options=options)
    assert "pixels go through gRPC" in caplog.text
    assert towers.encode_image(pixels).shape[0] == len(pixels)
    towers.close()
    with pytest.raises(ServerError, match="loopback"):
        TritonTowers(repository, "10.255.255.1:8001", options=_shared(triton))


def test_shared_memory_outlives_a_server_and_a_fork(server, repository, pixels):
    towers = TritonTowers(repository, server.url, options=_shared(server, request_timeout=20))
    expected = towers.encode_image(pixels)
    _signal(server, signal.SIGKILL)
    with pytest.raises(ServerUnavailable):
        towers.encode_image(pixels)
    server.restart("server")
    wait_until(lambda: _answers(towers, pixels))
    for _ in range(3):
        assert np.allclose(towers.encode_image(pixels), expected, atol=1e-5)

    def in_child():
        same = bool(np.allclose(towers.encode_image(pixels), expected, atol=1e-5))
        towers.close()
        return same and not _regions()

    assert in_fork(in_child)
    assert np.allclose(towers.encode_image(pixels), expected, atol=1e-5)
    towers.close()
    assert not _regions()


def _answers(towers, pixels):
    try:
        return towers.encode_image(pixels) is not None
    except ServerUnavailable:
        return False


_KILLED = """
import os, signal, sys
import numpy as np
from vireo_client.bundle import Bundle
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.triton import TritonTowers

bundle = Bundle(sys.argv[1])
options = ConnectionOptions(shared_memory="system", headers={sys.argv[3]: sys.argv[4]})
towers = TritonTowers(bundle, sys.argv[2], options=options)
size = bundle.config.image.size
towers.encode_image(np.zeros((4, 3, size, size), np.uint8))
print([name for name in os.listdir("/dev/shm") if f"_{os.getpid()}_client_" in name], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_no_region(triton, repository):
    key = triton.options.admin_key
    done = run_python("-c", _KILLED, repository.folder, triton.url, GRPC_KEY_HEADER, key)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (name,) = json.loads(done.stdout.replace("'", '"'))
    wait_until(lambda: not Path("/dev/shm", name).exists())
