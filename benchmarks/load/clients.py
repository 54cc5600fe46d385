"""What load clients send, in a form that another process can open."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import local
from typing import Protocol

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as pb

from .loops import Ask

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_TIMEOUT = 120.0
_IDLE = 2.0
"""Seconds after which a connection is opened anew: servers close idle ones, some after five."""


class Target(Protocol):
    """Something that can be asked; it is pickled, and opened in the clients' process."""

    def open(self) -> Ask:
        """Return the function that sends request number N."""
        ...


@dataclass(frozen=True)
class TritonTarget:
    """One model of a Triton, asked with requests that were written beforehand.

    The requests are sent as bytes and the answers are not read, so that clients take little of the
    cores that they share with the server.

    Args:
        url: `host:port` of the gRPC endpoint.
        requests: the serialised requests, sent in turn.
    """

    url: str
    requests: tuple[bytes, ...]

    def open(self) -> Ask:
        """Open a connection for each thread and return the function that asks."""
        state = local()

        def ask(number: int) -> object:
            if not hasattr(state, "call"):
                # Without this option gRPC gives all channels of a process one connection.
                options = [("grpc.use_local_subchannel_pool", 1)]
                channel = grpc.insecure_channel(self.url, options=options)
                state.call = channel.unary_unary(
                    _METHOD, request_serializer=None, response_deserializer=None
                )
            return state.call(self.requests[number % len(self.requests)], timeout=_TIMEOUT)

        return ask


@dataclass(frozen=True)
class HttpTarget:
    """An HTTP endpoint that takes JSON by POST, asked over connections that stay open."""

    host: str
    port: int
    path: str
    bodies: tuple[bytes, ...]

    def open(self) -> Ask:
        """Open a connection for each thread and return the function that asks."""
        state = local()

        def ask(number: int) -> bytes:
            if not hasattr(state, "connection"):
                state.connection = http.client.HTTPConnection(
                    self.host, self.port, timeout=_TIMEOUT
                )
            body = self.bodies[number % len(self.bodies)]
            if time.perf_counter() - getattr(state, "last", 0.0) > _IDLE:
                state.connection.close()  # opened anew by the request
            state.connection.request("POST", self.path, body, {"Content-Type": "application/json"})
            answer = state.connection.getresponse()
            data: bytes = answer.read()
            state.last = time.perf_counter()
            if answer.status != 200:
                raise RuntimeError(f"{self.path} answered {answer.status}: {data[:200]!r}")
            return data

        return ask


@dataclass(frozen=True)
class FunctionTarget:
    """A picklable function that makes the function that asks."""

    make: Callable[[], Ask]

    def open(self) -> Ask:
        """Return the function that asks."""
        return self.make()


def text_requests(model: str, texts: Sequence[str]) -> tuple[bytes, ...]:
    """Return serialised requests of one text each, for `embed_text` or another model of strings."""
    return tuple(_serialised(model, "text", text.encode()) for text in texts)


def image_requests(model: str, files: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return serialised requests of one encoded image each, for `embed_image`."""
    return tuple(_serialised(model, "image", data) for data in files)


def json_bodies(key: str, texts: Sequence[str]) -> tuple[bytes, ...]:
    """Return bodies of JSON with one text each under `key`."""
    return tuple(json.dumps({key: text}).encode() for text in texts)


def _serialised(model: str, name: str, value: bytes) -> bytes:
    tensor = triton.InferInput(name, [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value]], object))
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.append(tensor._get_tensor())
    request.raw_input_contents.append(tensor._get_content())
    request.outputs.add(name="embedding")
    return bytes(request.SerializeToString())
