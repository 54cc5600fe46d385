"""Warm-up, priorities and queues, in a real Triton whose text tower takes its time."""

import json
import shutil
import threading
import time

import numpy as np
import pytest
import tritonclient.grpc as grpc
from support.metrics import metric
from support.waiting import wait_until
from tritonclient.utils import InferenceServerException
from vireo_client.errors import ServerOverloaded, ServerTimeout
from vireo_client.repository import BULK_PRIORITY, QUERY_PRIORITY
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.onnx import OnnxTowers
from vireo_client.towers.triton import TritonTowers
from vireo_serving.configs.parts import batch_dynamically
from vireo_serving.configs.triton_config import (
    CONFIG_FILE,
    QueueLimits,
    ServingOptions,
    read_config,
    write_config,
)
from vireo_serving.models import files
from vireo_serving.server.ports import Ports
from vireo_serving.server.server import TritonServer

# Put at the end of the tower's real model file: it writes down what it runs, and can be held up.
_OBSERVED = """

import pathlib
import time

_run = OnnxEngine.run
_FOLDER = pathlib.Path({folder!r})


def _observed(self, values):
    if values.ndim != 2:  # the image tower has the same model file
        return _run(self, values)
    with (_FOLDER / "runs").open("a") as file:
        row = [len(values), values.shape[1], int(values[0, 1]), str(values.dtype)]
        file.write(json.dumps(row) + "\\n")
    while (_FOLDER / "hold").exists():
        time.sleep(0.01)
    try:
        return _run(self, values)
    except Exception:
        (_FOLDER / "failed").touch()
        raise


OnnxEngine.run = _observed
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("queues")


@pytest.fixture(scope="module")
def served(repository, folder):
    """The repository with a tower that is observed, and a queue of 3."""
    root = shutil.copytree(repository.folder, folder / "repository")
    model_files = shutil.copytree(files.FOLDER, folder / "models")
    with (model_files / files.FILES["text_encoder"]).open("a") as code:
        code.write(_OBSERVED.format(folder=str(folder)))
    config = read_config(root / "text_encoder" / CONFIG_FILE)
    config.ClearField("dynamic_batching")
    batch_dynamically(
        config,
        ServingOptions(queue_limits=QueueLimits(3, timeout_ms=600_000, bulk_timeout_ms=600_000)),
    )
    write_config(config, root / "text_encoder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "FOLDER", model_files)
        server = TritonServer(root, ports=Ports(0, 0, 0))
    with server:
        yield server


@pytest.fixture
def held(folder):
    """Holds the tower up until it is let go."""
    hold = folder / "hold"
    hold.touch()
    (folder / "runs").write_text("")
    yield hold
    hold.unlink(missing_ok=True)


def _runs(folder):
    return [json.loads(line) for line in (folder / "runs").read_text().splitlines()]


class _Requests:
    """Requests under way at the same time, which an id in them tells apart.

    Each test has ids of its own: a repeated text is answered from the cache.
    """

    def __init__(self, server):
        self.client = grpc.InferenceServerClient(server.url)
        self.answers = {}
        self.sent = 0

    def send(self, name, length=None, **options):
        # Each of a length of its own by default: the batcher does not join them.
        ids = np.full((1, length or 10 + self.sent), 5, dtype=np.int32)
        ids[0, 1] = name
        tensor = grpc.InferInput("input_ids", list(ids.shape), "INT32")
        tensor.set_data_from_numpy(ids)
        self.sent += 1

        def done(result, error):
            self.answers[name] = error or result.as_numpy("embedding")

        self.client.async_infer("text_encoder", [tensor], done, **options)

    def wait(self):
        wait_until(lambda: len(self.answers) == self.sent)
        self.client.close()
        return self.answers


def _pending(server):
    """Requests that wait for the tower."""
    return metric(server, "nv_inference_pending_request_count", "text_encoder")


def test_warm_up_runs_every_bucket_at_both_batches(served, folder, repository):
    """The first test here: no request was sent yet."""
    runs = _runs(folder)
    buckets = repository.config.text.buckets
    assert {(requests, length) for requests, length, _, _ in runs} == {
        (batch, bucket) for batch in (1, 8) for bucket in buckets
    }
    assert {dtype for *_, dtype in runs} == {"int32"}
    assert min(second for _, _, second, _ in runs) > repository.config.text.pad_id
    assert not (folder / "failed").exists()


def test_a_query_overtakes_bulk_work(served, folder, held):
    requests = _Requests(served)
    requests.send(100, priority=BULK_PRIORITY)
    wait_until(lambda: _runs(folder))  # the tower is busy with it
    for name in (101, 102):
        requests.send(name, priority=BULK_PRIORITY)
    wait_until(lambda: _pending(served) >= 2)
    requests.send(103, priority=QUERY_PRIORITY)
    requests.send(104)
    wait_until(lambda: _pending(served) >= 4)
    held.unlink()
    answers = requests.wait()
    assert not [error for error in answers.values() if isinstance(error, Exception)]
    order = [name for _, _, name, _ in _runs(folder)]
    assert [order[0], {*order[1:3]}, {*order[3:]}] == [100, {103, 104}, {101, 102}]


def test_requests_that_wait_run_together_and_each_gets_its_own_answer(
    served, folder, held, repository
):
    """Their answers go out before the run that computed them counts as ended."""
    requests = _Requests(served)
    requests.send(150, length=40)
    wait_until(lambda: _runs(folder))  # the tower is held up with it
    names = (151, 152, 153)
    for name in names:
        requests.send(name, length=20)
    wait_until(lambda: _pending(served) >= len(names))
    held.unlink()
    answers = requests.wait()
    assert [(rows, length) for rows, length, *_ in _runs(folder)] == [(1, 40), (3, 20)]
    ids = np.full((3, 20), 5, dtype=np.int32)
    ids[:, 1] = names
    expected = OnnxTowers.from_repository(repository).encode_text(ids)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4, "answers could be exchanged unseen"
    for name, vector in zip(names, expected, strict=True):
        assert np.abs(answers[name][0] - vector).max() < 1e-5


def test_a_repeated_text_is_not_run_again(served, folder):
    (folder / "runs").write_text("")
    answers = []
    for _ in range(3):
        requests = _Requests(served)  # the same ids each time
        requests.send(140)
        answers.append(requests.wait()[140])
    assert len(_runs(folder)) == 1
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def test_a_request_may_wait_less_than_others(served, folder, held):
    requests = _Requests(served)
    requests.send(110)
    wait_until(lambda: _runs(folder))
    requests.send(111, timeout=1000)  # microseconds
    requests.send(112)
    wait_until(lambda: _pending(served) >= 2 or 111 in requests.answers)
    time.sleep(0.05)  # fifty times as long as that request waits
    held.unlink()
    answers = requests.wait()
    assert isinstance(answers[111], InferenceServerException)
    assert answers[111].status() == "StatusCode.UNAVAILABLE"
    assert "timeout expired" in answers[111].message()
    assert answers[110].shape == answers[112].shape
    assert [name for _, _, name, _ in _runs(folder)] == [110, 112]


def test_a_full_queue_refuses_at_once_and_serves_on(served, folder, held, repository):
    requests = _Requests(served)
    requests.send(120)
    wait_until(lambda: _runs(folder))
    for name in range(121, 127):
        requests.send(name)
    wait_until(lambda: len(requests.answers) >= 3)  # refused while the tower is held up
    held.unlink()
    answers = requests.wait()
    refused = [error for error in answers.values() if isinstance(error, Exception)]
    assert len(refused) == 3
    for error in refused:
        assert error.status() == "StatusCode.UNAVAILABLE"
        assert "maximum queue size" in error.message()
    towers = TritonTowers(repository, served.url)
    assert towers.encode_text(np.full((2, 16), 5, dtype=np.int32)).shape[0] == 2
    towers.close()


def test_indexing_is_bulk_work(served, folder, held, repository):
    """The client's own bulk requests wait for a query that came after them."""
    ids = np.full((1, 16), 5, dtype=np.int32)
    bulk = TritonTowers(repository, served.url, bulk=True)
    query = TritonTowers(repository, served.url)

    def ask(towers, name, length):
        row = np.full((1, length), 5, dtype=np.int32)
        row[0, 1] = name
        thread = threading.Thread(target=towers.encode_text, args=(row,))
        thread.start()
        return thread

    threads = [ask(bulk, 200, 16)]
    wait_until(lambda: _runs(folder))
    threads.append(ask(bulk, 201, 17))
    wait_until(lambda: _pending(served) >= 1)
    threads.append(ask(query, 202, 18))
    wait_until(lambda: _pending(served) >= 2)
    held.unlink()
    for thread in threads:
        thread.join()
    assert [name for _, _, name, _ in _runs(folder)] == [200, 202, 201]
    assert bulk.encode_text(ids).shape[0] == 1
    bulk.close()
    query.close()


def test_the_client_names_a_full_queue_and_a_wait_too_long(served, folder, held, repository):
    requests = _Requests(served)
    requests.send(220)
    wait_until(lambda: _runs(folder))  # the tower is held up with it
    hasty = TritonTowers(repository, served.url, request_timeout=0.2)
    with pytest.raises(ServerTimeout, match="text_encoder"):
        hasty.encode_text(np.full((1, 16), 221, dtype=np.int32))
    for name in range(222, 228):
        requests.send(name)
    wait_until(lambda: len(requests.answers) >= 3)  # the queue is full, and refuses
    # A retry could find a place that the request which waited too long has left.
    once = TritonTowers(repository, served.url, options=ConnectionOptions(retries=0))
    with pytest.raises(ServerOverloaded, match="maximum queue size"):
        once.encode_text(np.full((1, 17), 221, dtype=np.int32))
    held.unlink()
    requests.wait()
    hasty.close()
    once.close()
