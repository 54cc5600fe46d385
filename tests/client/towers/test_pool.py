"""Several servers: which one gets a request, and what becomes of one that fails."""

import logging
import threading
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from support.triton_standin import Service, standing_in
from support.waiting import wait_until
from vireo_client.errors import ServerError, ServerTimeout, ServerUnavailable
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.pool import Endpoint, Pool
from vireo_client.towers.triton import TritonTowers

IDS = np.array([[3, 5], [7, 5]], dtype=np.int32)
OPTIONS = ConnectionOptions(probe_interval=0.05)


@pytest.fixture
def services(bundle):
    return [Service(bundle.bundle_id) for _ in range(3)]


@pytest.fixture
def urls(services):
    with (
        standing_in(services[0]) as a,
        standing_in(services[1]) as b,
        standing_in(services[2]) as c,
    ):
        yield [a, b, c]


def _counts(services):
    return [len(service.requests) for service in services]


def test_servers_take_turns(services, urls, bundle):
    towers = TritonTowers(bundle, ",".join(urls), options=OPTIONS)
    for _ in range(12):
        towers.encode_text(IDS)
    assert _counts(services) == [4, 4, 4]
    towers.close()


def test_a_busy_server_gets_fewer(services, urls, bundle):
    towers = TritonTowers(bundle, urls[:2], options=OPTIONS)
    services[0].hold = futures.Future()
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(towers.encode_text, IDS)
        wait_until(lambda: sum(_counts(services)) == 1)
        for _ in range(10):
            towers.encode_text(IDS)
        assert _counts(services[:2]) == [1, 10]
        services[0].hold.set_result(None)
        assert held.result(60).shape[0] == 2
    towers.close()


def test_the_pool_counts_what_is_under_way():
    endpoints = [Endpoint(name, None) for name in "abc"]
    pool = Pool(endpoints, lambda endpoint: None)
    with pool.borrow(set()) as a, pool.borrow(set()) as b, pool.borrow(set()) as c:
        assert {a, b, c} == set(endpoints)
        assert [e.outstanding for e in endpoints] == [1, 1, 1]
    assert [e.outstanding for e in endpoints] == [0, 0, 0]
    pool.put_aside(endpoints[0], ServerUnavailable("away"))
    for _ in range(4):
        with pool.borrow(set()) as endpoint:
            assert endpoint is not endpoints[0]
    with pool.borrow({endpoints[1]}) as endpoint:
        assert endpoint is endpoints[2]
    assert not pool.has_untried({endpoints[1], endpoints[2]})


def test_all_that_are_aside_are_still_tried():
    endpoints = [Endpoint(name, None) for name in "ab"]
    pool = Pool(endpoints, lambda endpoint: None)
    for endpoint in endpoints:
        pool.put_aside(endpoint, ServerUnavailable("away"))
    with pool.borrow(set()) as first, pool.borrow({first}) as second:
        assert {first, second} == set(endpoints)


def test_a_failed_request_goes_to_another_server_at_once(services, urls, bundle, monkeypatch):
    monkeypatch.setattr(
        "vireo_client.towers.exchange.pause_before_retry", lambda error, retry: 1000.0
    )
    towers = TritonTowers(bundle, urls, options=OPTIONS)
    services[0].failure = services[1].failure = grpc.StatusCode.UNAVAILABLE, "going"
    for _ in range(6):
        assert np.array_equal(towers.encode_text(IDS).argmax(1), [3, 7])
    towers.close()


def test_a_server_that_ends_costs_no_request_and_is_used_again_when_it_is_back(
    services, bundle, caplog
):
    caplog.set_level(logging.INFO, logger="vireo_client.towers.pool")
    with standing_in(services[0]) as stays:
        with standing_in(services[1]) as goes:
            towers = TritonTowers(bundle, [stays, goes], options=OPTIONS)
            failures = []
            ended = threading.Event()

            def ask():
                while not ended.is_set():
                    try:
                        towers.encode_text(IDS)
                    except ServerError as error:
                        failures.append(error)

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            wait_until(lambda: min(_counts(services[:2])) > 20)
        wait_until(lambda: "is put aside" in caplog.text)
        before = _counts(services)[0]
        wait_until(lambda: _counts(services)[0] > before + 20)
        seen = _counts(services)[1]
        with standing_in(services[1], goes):
            wait_until(lambda: _counts(services)[1] > seen + 20)
            wait_until(lambda: f"Triton at {goes} answers again" in caplog.text)
            ended.set()
            for thread in threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in threads)
            towers.close()
    assert failures == []
    wait_until(
        lambda: not any(thread.name.startswith("vireo-probe") for thread in threading.enumerate())
    )


def test_servers_that_are_away_at_first_are_put_aside(services, urls, bundle, caplog):
    towers = TritonTowers(bundle, ["127.0.0.1:9", urls[0]], options=OPTIONS)
    for _ in range(4):
        towers.encode_text(IDS)
    assert _counts(services) == [4, 0, 0]
    assert "127.0.0.1:9 is put aside" in caplog.text
    towers.close()


def test_no_server_at_all_is_named_by_all_addresses(bundle):
    with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:9:.*127\.0\.0\.1:10:"):
        TritonTowers(bundle, "127.0.0.1:9,127.0.0.1:10", options=OPTIONS)


def test_a_server_of_another_bundle_gets_no_request_until_it_is_right(services, urls, bundle):
    services[1].bundle_id = "another"
    towers = TritonTowers(bundle, urls[:2], options=OPTIONS)
    for _ in range(4):
        towers.encode_text(IDS)
    assert _counts(services) == [4, 0, 0]
    services[1].bundle_id = bundle.bundle_id
    wait_until(lambda: towers.encode_text(IDS) is not None and _counts(services)[1])
    services[0].bundle_id = services[1].bundle_id = "another"
    with pytest.raises(ServerError, match=r"bundle another.*bundle another"):
        TritonTowers(bundle, urls[:2], options=OPTIONS)
    towers.close()


def test_a_server_that_came_back_with_another_bundle_is_found_out(service, url, bundle):
    towers = TritonTowers(bundle, url, options=OPTIONS)
    service.failures = [(grpc.StatusCode.UNAVAILABLE, "going")]
    service.bundle_id = "another"
    with pytest.raises(ServerError, match="is now of bundle another"):
        towers.encode_text(IDS)
    assert len(service.requests) == 1
    towers.close()


def test_a_server_that_was_exchanged_unseen_is_found_out(service, url, bundle, monkeypatch):
    towers = TritonTowers(bundle, url, options=OPTIONS)
    monkeypatch.setattr("vireo_client.towers.exchange._SILENCE", 0.0)
    towers.encode_text(IDS)
    service.bundle_id = "another"
    with pytest.raises(ServerError, match="is now of bundle another"):
        towers.encode_text(IDS)
    assert len(service.requests) == 1
    service.bundle_id = bundle.bundle_id
    assert towers.encode_text(IDS).shape[0] == 2
    towers.close()


def test_a_server_that_does_not_answer_a_check_is_left_for_another(
    services, urls, bundle, monkeypatch
):
    # The other server must answer its checks in this time, too.
    options = ConnectionOptions(connect_timeout=2, probe_interval=0.05)
    towers = TritonTowers(bundle, urls[:2], options=options)
    monkeypatch.setattr("vireo_client.towers.exchange._SILENCE", 0.0)
    services[0].hold_checks = hold = futures.Future()
    for _ in range(2):
        towers.encode_text(IDS)
    assert _counts(services) == [0, 2, 0]
    hold.set_result(None)
    towers.close()


def test_a_server_that_answers_too_late_is_put_aside_and_no_other_asked(
    services, urls, bundle, caplog
):
    towers = TritonTowers(bundle, urls[:2], options=OPTIONS, request_timeout=0.3)
    services[0].hold = services[1].hold = futures.Future()
    with pytest.raises(ServerTimeout):
        towers.encode_text(IDS)
    assert caplog.text.count("is put aside") == 1
    assert sum(_counts(services)) <= 1  # on a busy machine, it has not arrived in time
    services[0].hold.set_result(None)
    towers.close()
