"""The asyncio client: it joins texts, and a cancelled task takes back its request."""

import asyncio
import gc
import warnings
from concurrent import futures

import grpc
import numpy as np
import pytest
from support.bundles import DIM
from support.triton_standin import Service, standing_in
from support.waiting import wait_until
from vireo_client.errors import ServerError, ServerRejected, ServerTimeout, ServerUnavailable
from vireo_client.towers.aio import AsyncTritonTowers
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.joining import Joiner

FOREVER = ConnectionOptions(join_window=60.0)
"""Nothing is sent because time has passed."""


def _ids(first, rows=1, length=16):
    ids = np.full((rows, length), 5, dtype=np.int32)
    ids[:, 0] = np.arange(first, first + rows)
    return ids


async def _until(condition):
    await asyncio.to_thread(wait_until, condition, 60)


def _run(main):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a task whose error nobody took
        asyncio.run(asyncio.wait_for(main, 120))
        gc.collect()


def _rows(service):
    return [request.inputs[0].shape[0] for request in service.requests]


def test_a_single_call_is_sent_at_once(service, url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url, options=FOREVER) as towers:
            for first in range(5):
                vectors = await towers.encode_text(_ids(first, 2))
                assert vectors.argmax(1).tolist() == [first, first + 1]
        assert _rows(service) == [2] * 5

    _run(main())


def test_calls_that_come_meanwhile_are_joined_and_get_their_own_answers(service, url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url, options=FOREVER) as towers:
            service.hold = futures.Future()
            calls = [asyncio.create_task(towers.encode_text(_ids(10 * n, 1 + n % 2)))
                     for n in range(5)]  # fmt: skip
            other = asyncio.create_task(towers.encode_text(_ids(90, length=32)))
            await _until(lambda: len(service.requests) == 2)
            service.hold.set_result(None)
            for n, call in enumerate(calls):
                expected = np.arange(10 * n, 10 * n + 1 + n % 2)
                assert np.array_equal((await call).argmax(1), expected)
            assert (await other).argmax(1).tolist() == [90]
        assert sorted(_rows(service)) == [1, 1, 6]

    _run(main())


def test_a_full_batch_does_not_wait(service, url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url, options=FOREVER) as towers:
            service.hold = futures.Future()
            calls = [asyncio.create_task(towers.encode_text(_ids(n))) for n in range(11)]
            await _until(lambda: len(service.requests) == 2)
            assert sorted(_rows(service)) == [1, 8]
            service.hold.set_result(None)
            answers = await asyncio.gather(*calls)
            assert [int(vectors.argmax()) for vectors in answers] == list(range(11))
        assert sorted(_rows(service)) == [1, 2, 8]

    _run(main())


def test_a_call_waits_for_others_only_for_the_window(service, url, bundle):
    async def main():
        options = ConnectionOptions(join_window=0.02)
        async with AsyncTritonTowers(bundle, url, options=options) as towers:
            service.hold = futures.Future()
            calls = [asyncio.create_task(towers.encode_text(_ids(n))) for n in range(3)]
            await _until(lambda: len(service.requests) == 2)  # the first one is not answered yet
            service.hold.set_result(None)
            await asyncio.gather(*calls)
        assert sorted(_rows(service)) == [1, 2]

    _run(main())


def test_a_text_that_is_refused_hurts_no_neighbour(service, url, bundle):
    def refuse(answer):
        if answer.outputs[0].shape[0] > 1 or answer.raw_output_contents[0][:4] == b"\0\0\x80?":
            answer.outputs[0].datatype = "INT8"  # as if the batch, or the row 0, were bad

    async def main():
        async with AsyncTritonTowers(bundle, url, options=FOREVER) as towers:
            service.hold = futures.Future()
            calls = [asyncio.create_task(towers.encode_text(_ids(n))) for n in (9, 0, 1, 2)]
            await _until(lambda: service.requests)
            service.change = refuse
            service.hold.set_result(None)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [int(answers[n].argmax()) for n in (0, 2, 3)] == [9, 1, 2]
            assert isinstance(answers[1], ServerError)

    _run(main())


def test_an_error_of_the_server_is_that_of_each_call(service, url, bundle):
    async def main():
        options = ConnectionOptions(join_window=60.0, retries=0)
        async with AsyncTritonTowers(bundle, url, options=options) as towers:
            service.hold = futures.Future()
            calls = [asyncio.create_task(towers.encode_text(_ids(n))) for n in range(4)]
            await _until(lambda: service.requests)
            service.failure = grpc.StatusCode.UNAVAILABLE, "going"
            service.hold.set_result(None)
            errors = (await asyncio.gather(*calls, return_exceptions=True))[1:]
            assert {type(error) for error in errors} == {ServerUnavailable}
            assert len({id(error) for error in errors}) == 3
        assert sorted(_rows(service)) == [1, 3]

    _run(main())


def test_whatever_error_there_is_reaches_the_call():
    class OddError(Exception):
        def __init__(self, first, second):
            super().__init__(f"{first} {second}")

    async def send(ids):
        raise OddError("not", "of ours")

    async def main():
        with pytest.raises(OddError, match="not of ours"):
            await Joiner(send, lambda: 8, 60.0).embed(_ids(1))

    _run(main())


def test_a_cancelled_task_cancels_its_call(service, url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url, options=FOREVER) as towers:
            service.hold = futures.Future()
            for encode, values in (
                (towers.encode_text, _ids(1)),
                (towers.encode_image, np.zeros((1, 3, 32, 32), np.uint8)),
            ):
                seen = len(service.calls)
                call = asyncio.create_task(encode(values))
                await _until(lambda n=seen: len(service.calls) > n)
                assert service.calls[-1].is_active()
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await _until(lambda: not service.calls[-1].is_active())
            service.hold.set_result(None)
            assert (await towers.encode_text(_ids(4))).argmax() == 4

    _run(main())


def test_a_cancelled_task_leaves_those_alone_with_which_it_was_joined(service, url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url, options=FOREVER) as towers:
            service.hold = hold = futures.Future()
            calls = [asyncio.create_task(towers.encode_text(_ids(n))) for n in range(6)]
            await _until(lambda: service.requests)
            calls[1].cancel()  # while it waits
            service.hold = second = futures.Future()
            hold.set_result(None)
            await _until(lambda: len(service.requests) == 2)
            calls[2].cancel()  # while it is under way
            await asyncio.wait(calls[1:3])
            assert service.calls[-1].is_active()
            second.set_result(None)
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [int(answers[n].argmax()) for n in (0, 3, 4, 5)] == [0, 3, 4, 5]
            assert all(isinstance(answers[n], asyncio.CancelledError) for n in (1, 2))
            assert _rows(service) == [1, 4]

            service.hold = third = futures.Future()
            calls = [asyncio.create_task(towers.encode_text(_ids(n))) for n in range(3)]
            await _until(lambda: len(service.requests) == 3)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            await _until(lambda: not service.calls[-1].is_active())
            third.set_result(None)

    _run(main())


def test_the_deadline_holds(service, url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url, request_timeout=0.3) as towers:
            service.hold = futures.Future()
            calls = [towers.encode_text(_ids(n)) for n in range(3)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in errors} == {ServerTimeout}
            service.hold.set_result(None)

    _run(main())


def test_the_first_call_connects_and_a_failed_connection_is_tried_again(service, bundle):
    async def main():
        with standing_in(service) as url:
            pass
        towers = AsyncTritonTowers(bundle, url)
        with pytest.raises(ServerUnavailable, match="vireo serve"):
            await towers.encode_text(_ids(1))
        with standing_in(service, url):
            await _until_connected(towers)
            answers = await asyncio.gather(*(towers.encode_text(_ids(n)) for n in range(3)))
            assert [int(vectors.argmax()) for vectors in answers] == [0, 1, 2]
            assert towers.max_batch_size == 8
            await towers.close()

    _run(main())


async def _until_connected(towers):
    for _ in range(600):
        try:
            return await towers.connect()
        except ServerUnavailable:
            await asyncio.sleep(0.1)
    raise AssertionError("not within a minute")


def test_it_belongs_to_one_event_loop_and_can_be_closed(url, bundle):
    towers = AsyncTritonTowers(bundle, url)

    async def ask():
        return await towers.encode_text(_ids(1))

    async def leave():
        await towers.close()
        await towers.close()
        with pytest.raises(ServerError, match="was closed"):
            await ask()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask())
    with pytest.raises(ServerError, match="another event loop"):
        asyncio.run(ask())
    loop.run_until_complete(leave())
    loop.close()


def test_two_servers_one_of_which_ends(bundle, caplog):
    services = [Service(bundle.bundle_id) for _ in range(2)]
    options = ConnectionOptions(probe_interval=0.05)

    async def main():
        with standing_in(services[0]) as stays:
            with standing_in(services[1]) as goes:
                towers = AsyncTritonTowers(bundle, [stays, goes], options=options)

                ended = asyncio.Event()

                async def ask():
                    first = 0
                    while not ended.is_set():
                        vectors = await towers.encode_text(_ids(first, length=16 + first % 3))
                        assert vectors.argmax() == first
                        first = (first + 1) % DIM

                asking = [asyncio.create_task(ask()) for _ in range(4)]
                await _until(lambda: min(len(service.requests) for service in services) > 5)
            await _until(lambda: "is put aside" in caplog.text)
            seen = len(services[1].requests)
            with standing_in(services[1], goes):
                await _until(lambda: len(services[1].requests) > seen + 5)
                ended.set()
                await asyncio.gather(*asking)
            await towers.close()

    _run(main())


def test_a_batch_that_is_refused_is_refused(service, url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url) as towers:
            service.failure = grpc.StatusCode.INVALID_ARGUMENT, "batch-size must be <= 8"
            with pytest.raises(ServerRejected, match="batch-size"):
                await towers.encode_text(_ids(0, 9))

    _run(main())


def test_a_client_that_is_closed_answers_those_that_wait(service, url, bundle):
    async def main():
        towers = AsyncTritonTowers(bundle, url, options=FOREVER)
        await towers.connect()
        service.hold = futures.Future()
        pixels = np.zeros((1, 3, 32, 32), np.uint8)
        calls = [asyncio.create_task(towers.encode_text(_ids(n))) for n in range(3)]
        calls.append(asyncio.create_task(towers.encode_image(pixels)))
        await _until(lambda: len(service.requests) == 2)
        await towers.close()
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 60)
        assert [type(answer) for answer in answers] == [ServerError] * 4
        service.hold.set_result(None)

    _run(main())


def test_ids_of_a_wrong_shape_are_an_error(url, bundle):
    async def main():
        async with AsyncTritonTowers(bundle, url) as towers:
            with pytest.raises(ServerError, match="text_encoder"):
                await towers.encode_text(np.full((1, 2), 5, dtype=np.float64))

    _run(main())
