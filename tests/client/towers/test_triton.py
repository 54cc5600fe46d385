"""The client's errors, against a gRPC server that answers as Triton does."""

from concurrent import futures

import grpc
import numpy as np
import pytest
from support.bundles import DIM
from support.processes import run_python
from vireo_client import errors
from vireo_client.errors import (
    ServerError,
    ServerOverloaded,
    ServerRejected,
    ServerTimeout,
    ServerUnavailable,
)
from vireo_client.towers.triton import TritonTowers

IDS = np.full((2, 16), 5, dtype=np.int32)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        # Triton's own words, as tests/integration/test_queues.py meets them.
        ("UNAVAILABLE", "[request id: 1] Exceeds maximum queue size", ServerOverloaded),
        ("UNAVAILABLE", "Request timeout expired", ServerTimeout),
        ("UNAVAILABLE", "Request for unknown model: 'x' has no available versions",
         ServerUnavailable),
        ("CANCELLED", "CANCELLED", ServerUnavailable),  # gRPC's own, of a server that ends
        ("INVALID_ARGUMENT", "inference request batch-size must be <= 64", ServerRejected),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)", ServerRejected),
        ("RESOURCE_EXHAUSTED", "too many requests", ServerOverloaded),
        ("INTERNAL", "Failed to process the request(s)", ServerError),
    ],
)  # fmt: skip
def test_the_status_chooses_the_error(service, url, bundle, status, text, kind):
    towers = TritonTowers(bundle, url)
    service.failure = grpc.StatusCode[status], text
    with pytest.raises(ServerError) as error:
        towers.encode_text(IDS)
    documented = next(c for c in type(error.value).__mro__ if c.__module__ == errors.__name__)
    assert documented is kind
    assert text in str(error.value)
    assert url in str(error.value)
    service.failure = None
    assert towers.encode_text(IDS).shape == (2, DIM)  # the connection goes on
    towers.close()


def test_an_answer_that_does_not_come_is_a_timeout(service, url, bundle):
    towers = TritonTowers(bundle, url, request_timeout=0.3)
    service.hold = futures.Future()
    with pytest.raises(ServerTimeout, match="Deadline Exceeded"):
        towers.encode_text(IDS)
    service.hold.set_result(None)
    towers.close()


def test_a_model_that_is_not_ready_is_unavailable(service, url, bundle):
    service.ready = False
    with pytest.raises(ServerUnavailable, match="text_encoder is not ready"):
        TritonTowers(bundle, url)


def test_no_server_is_unavailable(bundle):
    with pytest.raises(ServerUnavailable, match="vireo serve REPOSITORY"):
        TritonTowers(bundle, "127.0.0.1:9")


_FORKS = """
import sys
import numpy as np
from support.processes import in_fork
from vireo_client.bundle import Bundle
from vireo_client.towers.triton import TritonTowers

towers = TritonTowers(Bundle(sys.argv[1]), sys.argv[2], request_timeout=20)
ids = np.full((2, 16), 5, dtype=np.int32)

def run():
    return [towers.encode_text(ids).tolist(), towers.encode_image(pixels).tolist()]

pixels = np.zeros((2, 3, 32, 32), dtype=np.uint8)
here = run()
for _ in range(3):
    assert in_fork(run) == here
assert run() == here
assert in_fork(lambda: [run(), in_fork(run)]) == [here, here]
towers.close()
"""


def test_a_forked_child_that_cannot_connect_says_so_at_once(url, bundle):
    program = _FORKS.replace("here = run()", "run(); in_fork(run, 10)")
    done = run_python("-c", program, bundle.folder, url, GRPC_ENABLE_FORK_SUPPORT="0")
    assert "ServerError: " in done.stderr
    assert "unset it" in done.stderr


def test_a_forked_child_connects_anew(url, bundle):
    done = run_python("-c", _FORKS, bundle.folder, url)
    assert done.returncode == 0, done.stderr
