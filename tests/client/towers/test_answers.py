"""Answers that no Triton should give: each is a ServerError, and none becomes an embedding."""

import asyncio
import socket
import threading
from concurrent import futures

import grpc
import numpy as np
import pytest
from support.bundles import DIM
from tritonclient.grpc import service_pb2
from vireo_client.errors import ServerError, ServerUnavailable
from vireo_client.towers.aio import AsyncTritonTowers
from vireo_client.towers.connection import ConnectionOptions
from vireo_client.towers.triton import TritonTowers

IDS = np.array([[3, 5], [7, 5]], dtype=np.int32)
ONCE = ConnectionOptions(retries=0)


def _content(vectors, dtype=np.float32):
    def change(answer):
        answer.outputs[0].shape[:] = np.shape(vectors)
        answer.raw_output_contents[0] = np.asarray(vectors, dtype).tobytes()

    return change


def _unit(rows=2, dim=DIM):
    return np.eye(rows, dim, dtype=np.float32)


def _named(**values):
    def change(answer):
        for name, value in values.items():
            setattr(answer.outputs[0], name, value)

    return change


def _raw(content):
    def change(answer):
        answer.raw_output_contents[:] = content

    return change


ANSWERS = {
    "a row too few": (_content(_unit(1)), r"\[1, 256\].*\[2, 256\]"),
    "a row too many": (_content(_unit(3)), r"\[3, 256\].*\[2, 256\]"),
    "another size": (_content(_unit(dim=128)), r"\[2, 128\].*\[2, 256\]"),
    "flat": (_content(_unit().ravel()), r"\[512\].*\[2, 256\]"),
    "another type": (_named(datatype="FP16"), "FP16"),
    "no type": (_named(datatype=""), "unnamed type"),
    "another output": (_named(name="logits"), "empty answer"),
    "no outputs": (lambda answer: answer.ClearField("outputs"), "empty answer"),
    "no contents": (_raw([]), "empty answer"),
    "empty contents": (_raw([b""]), "numpy 1.26"),
    "a short buffer": (_raw([b"\0" * 1020]), "1020 bytes"),
    "a long buffer": (_raw([b"\0" * 4096]), "4096 bytes"),
    "not a number": (_content(_unit() * np.nan), "length nan"),
    "one NaN": (_content(np.where(np.arange(2 * DIM).reshape(2, DIM) == 300, np.nan, _unit())),
                r"row 1"),
    "infinite": (_content(np.full((2, DIM), np.inf)), "length inf"),
    "so large that its square is infinite": (_content(_unit() * 3e38), "length inf"),
    "of length 2": (_content(_unit() * 2), "length 2"),
    "zeros": (_content(_unit() * 0), "length 0"),
    "nearly of length 1": (_content(_unit() * 1.01), "length 1.01"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_a_wrong_answer_is_an_error(service, url, bundle, name):
    towers = TritonTowers(bundle, url)
    service.change, message = ANSWERS[name]
    with pytest.raises(ServerError, match=rf"{url}: text_encoder .*{message}"):
        towers.encode_text(IDS)
    service.change = None
    assert np.array_equal(towers.encode_text(IDS).argmax(1), [3, 7])
    towers.close()


def test_a_right_answer_may_be_rounded(service, url, bundle):
    towers = TritonTowers(bundle, url)
    service.change = _content(_unit() * 1.0005)
    vectors = towers.encode_text(IDS)
    assert vectors.dtype == np.float32
    assert vectors.flags.writeable
    towers.close()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"versions": []}, "no version that is ready"),
        ({"versions": ["abc"]}, "version 'abc', which is no number"),
        ({"versions": ["1", "²"]}, "version '²', which is no number"),
        ({"versions": ["-1"]}, "version '-1'"),
        ({"versions": [""]}, "version ''"),
        ({"max_batch_size": 0}, "takes no batches"),
        ({"bundle_id": ""}, "is of bundle unknown"),
    ],
)
def test_a_server_that_describes_itself_wrongly_is_refused(service, url, bundle, changed, message):
    for name, value in changed.items():
        setattr(service, name, value)
    with pytest.raises(ServerError, match=message):
        TritonTowers(bundle, url)

    async def connect():
        async with AsyncTritonTowers(bundle, url):
            pass

    with pytest.raises(ServerError, match=message):
        asyncio.run(connect())


def _garbling(service, methods):
    """Serve `service`, but bytes that are no message in answer to `methods`."""
    whole = {
        method.name: getattr(service_pb2, method.input_type.name)
        for method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    }

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            name = details.method.rpartition("/")[2]

            def answer(request, context):
                if name in methods:
                    return b"\xff\xff\xff\xff"
                return getattr(service, name)(request, context).SerializeToString()

            return grpc.unary_unary_rpc_method_handler(
                answer, request_deserializer=whole[name].FromString
            )

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, f"127.0.0.1:{port}"


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig", "ModelInfer"])
def test_bytes_that_are_no_message_are_an_error(service, bundle, method):
    server, url = _garbling(service, {method})
    with pytest.raises(ServerError, match=url):
        TritonTowers(bundle, url, options=ONCE).encode_text(IDS)

    async def ask():
        async with AsyncTritonTowers(bundle, url, options=ONCE) as towers:
            await towers.encode_text(IDS)

    with pytest.raises(ServerError, match=url):
        asyncio.run(ask())
    server.stop(None).wait()


def test_values_of_the_wrong_type_are_refused_here(url, bundle):
    towers = TritonTowers(bundle, url)
    with pytest.raises(ServerError, match="text_encoder"):
        towers.encode_text(IDS.astype(np.int64))
    assert towers.encode_text(IDS[:0]).shape == (0, DIM)
    towers.close()


def test_a_server_that_closes_every_connection_is_unavailable(bundle):
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    url = f"127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ServerUnavailable, match=url):
        TritonTowers(bundle, url)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)
    assert not thread.is_alive()
