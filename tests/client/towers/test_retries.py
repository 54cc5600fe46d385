"""What is sent again, when, and what goes with it."""

from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from support.triton_standin import standing_in
from support.waiting import wait_until
from vireo_client.errors import (
    ServerError,
    ServerOverloaded,
    ServerRejected,
    ServerTimeout,
    ServerUnavailable,
)
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.retries import Deadline, pause_before_retry
from vireo_client.towers.triton import TritonTowers

IDS = np.array([[3, 5], [7, 5]], dtype=np.int32)
AWAY = grpc.StatusCode.UNAVAILABLE, "away"
ENDING = grpc.StatusCode.CANCELLED, "CANCELLED"
FULL = grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"
LATE = grpc.StatusCode.UNAVAILABLE, "Request timeout expired"
REFUSED = grpc.StatusCode.INVALID_ARGUMENT, "batch-size must be <= 8"
BROKEN = grpc.StatusCode.INTERNAL, "failed"


def _towers(bundle, url, **options):
    return TritonTowers(bundle, url, options=ConnectionOptions(**options))


@pytest.mark.parametrize("failures", [[AWAY], [ENDING], [FULL], [AWAY, FULL]])
def test_what_is_safe_is_sent_again(service, url, bundle, failures):
    towers = _towers(bundle, url)
    service.failures = list(failures)
    assert np.array_equal(towers.encode_text(IDS).argmax(1), [3, 7])
    assert len(service.requests) == len(failures) + 1
    left = [request.parameters["timeout"].int64_param for request in service.requests]
    assert left == sorted(left, reverse=True), "each gets what is left of the deadline"
    assert len(set(left)) == len(left)
    assert 0 < left[-1] <= left[0] <= 60e6  # microseconds
    towers.close()


def test_a_failure_in_one_thread_leaves_the_others_alone(service, url, bundle, monkeypatch):
    """It empties what is known of the server, while another thread relies on that."""
    towers = _towers(bundle, url)
    monkeypatch.setattr("vireo_client.towers.exchange._SILENCE", 0.0)
    asked = len(service.checks)
    service.hold_checks = futures.Future()
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(towers.encode_text, IDS)
        wait_until(lambda: len(service.checks) > asked)
        towers._exchange.pool.endpoints[0].versions = {}
        service.hold_checks.set_result(None)
        assert np.array_equal(call.result(60).argmax(1), [3, 7])
    towers.close()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(LATE, ServerTimeout), (REFUSED, ServerRejected), (BROKEN, ServerError)],
)
def test_other_errors_are_final(service, url, bundle, failure, kind):
    towers = _towers(bundle, url)
    service.failures = [failure]
    with pytest.raises(kind, match=failure[1]):
        towers.encode_text(IDS)
    assert len(service.requests) == 1
    towers.close()


@pytest.mark.parametrize(("retries", "sent"), [(0, 1), (1, 2), (3, 4)])
def test_retries_are_counted(service, url, bundle, retries, sent):
    towers = _towers(bundle, url, retries=retries)
    service.failure = AWAY
    with pytest.raises(ServerUnavailable, match="away"):
        towers.encode_text(IDS)
    assert len(service.requests) == sent
    towers.close()


def test_no_retry_begins_after_the_deadline(service, url, bundle, monkeypatch):
    monkeypatch.setattr(
        "vireo_client.towers.exchange.pause_before_retry", lambda error, retry: 1000.0
    )
    towers = _towers(bundle, url)
    service.failure = AWAY
    with pytest.raises(ServerUnavailable, match="away"):
        towers.encode_text(IDS)
    assert len(service.requests) == 1
    towers.close()


def test_pauses_double_up_to_a_bound_and_are_spread(monkeypatch):
    bounds = []
    monkeypatch.setattr(
        "vireo_client.towers.retries.random.uniform", lambda low, high: bounds.append((low, high))
    )
    for retry in (0, 1, 2, 20):
        pause_before_retry(ServerUnavailable("x"), retry)
        pause_before_retry(ServerOverloaded("x"), retry)
    assert bounds == [
        (0, 0.1),
        (0, 0.4),
        (0, 0.2),
        (0, 0.8),
        (0, 0.4),
        (0, 1.6),
        (0, 5.0),
        (0, 5.0),
    ]


def test_a_deadline_ends_at_zero():
    assert Deadline(0).left() == 0
    assert 0 < Deadline(100).left() <= 100


def test_headers_go_with_each_request_and_stay_out_of_errors(service, url, bundle, caplog):
    secret = "Bearer 0123-a-secret"
    towers = _towers(bundle, url, headers={"authorization": secret})
    towers.encode_text(IDS)
    assert service.metadata[0]["authorization"] == secret
    service.failure = grpc.StatusCode.UNAUTHENTICATED, f"who is {secret}?"
    with pytest.raises(ServerRejected, match=r"who is \*\*\*\?") as error:
        towers.encode_text(IDS)
    told, at = "", error.value
    while at is not None:
        told, at = f"{told}{at!r}", at.__cause__
    assert "0123" not in told + caplog.text
    towers.close()


def test_a_batch_above_the_limit_of_a_message_is_split(service, url, bundle):
    towers = _towers(bundle, url, max_message_bytes=2**16)
    pixels = np.zeros((50, 3, 32, 32), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(50)
    assert np.array_equal(towers.encode_image(pixels).argmax(1), np.arange(50))
    assert len(service.requests) == 3
    assert max(request.ByteSize() for request in service.requests) <= 2**16
    towers.close()


def test_a_batch_that_something_on_the_way_finds_too_large_is_halved(service, bundle):
    with standing_in(service, max_receive_message_length=20_000) as url:
        towers = _towers(bundle, url)
        pixels = np.zeros((13, 3, 32, 32), dtype=np.uint8)
        pixels[:, 0, 0, 0] = np.arange(13)
        assert np.array_equal(towers.encode_image(pixels).argmax(1), np.arange(13))
        with pytest.raises(ServerRejected, match="larger than max"):
            towers.encode_image(np.zeros((1, 3, 100, 100), dtype=np.uint8))
        towers.close()


def test_a_closed_client_says_so(url, bundle):
    towers = _towers(bundle, url)
    towers.close()
    towers.close()
    with pytest.raises(ServerError, match="was closed"):
        towers.encode_text(IDS)
    assert towers.max_batch_size == 8


def test_a_client_that_is_closed_answers_those_that_wait(service, url, bundle):
    towers = _towers(bundle, url)
    service.hold = futures.Future()
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(towers.encode_text, IDS) for _ in range(2)]
        wait_until(lambda: len(service.requests) == 2)
        towers.close()
        for call in calls:
            with pytest.raises(ServerError):
                call.result(60)
    service.hold.set_result(None)
