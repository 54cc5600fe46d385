"""The towers behind a Triton Inference Server, over gRPC."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc
from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE
from tritonclient.utils import InferenceServerException

from ..bundle import Bundle
from ..errors import (
    ServerError,
    ServerOverloaded,
    ServerRejected,
    ServerTimeout,
    ServerUnavailable,
)
from ..forks import abandon, renew_after_fork
from ..repository import (
    BULK_PRIORITY,
    BUNDLE_PARAMETER,
    IMAGE_MODEL,
    QUERY_PRIORITY,
    TEXT_MODEL,
)
from .tls import ClientTls, split_url


class TritonTowers:
    """Runs the towers on a Triton server.

    The constructor checks that the server is ready and serves the engines of this very bundle:
    embeddings of two models in one index would be wrong without an error. Each request then asks
    for the version that was checked. When the server has replaced it by a newer one, that one is
    checked: the same bundle goes on, another one is an error.

    Args:
        bundle: the bundle that the client preprocesses for.
        url: `host:port` of Triton's gRPC endpoint; `grpcs://host:port` where it speaks TLS.
        tls: certificates; where they are given, TLS is used.
        connect_timeout: seconds to wait for the first answer.
        request_timeout: seconds to wait for one inference; a server with queue limits drops a
            request that has queued for so long.
        bulk: whether any query overtakes these requests, as when images are indexed, on a server
            with queue limits.

    Raises:
        ServerUnavailable: no server answers, or a model is not ready.
        ServerTimeout: the server does not answer within `connect_timeout`.
        ServerError: the server serves engines of another bundle.
    """

    name = "triton"
    batches_in_flight = 3
    """One runs, one waits in the server's queue, one is on the way."""

    def __init__(
        self,
        bundle: Bundle,
        url: str = "127.0.0.1:8001",
        *,
        tls: ClientTls | None = None,
        connect_timeout: float = 5.0,
        request_timeout: float = 60.0,
        bulk: bool = False,
    ) -> None:
        self.url, tls = split_url(url, tls)
        self._bundle = bundle
        self._connect_timeout = connect_timeout
        self._priority = BULK_PRIORITY if bulk else QUERY_PRIORITY
        self._timeout = request_timeout
        self._tls = tls
        self._forked = False
        self._connected: grpc.InferenceServerClient | None = None
        self._lock = Lock()
        self._versions: dict[str, str] = {}
        try:
            self._check()
            metadata = self._client.get_server_metadata(client_timeout=connect_timeout)
            self.server_version = str(metadata.version)
        except ServerError:
            self._client.close()
            raise
        except InferenceServerException as error:
            self._client.close()
            raise _server_error(
                error, f"Triton at {self.url}: {self._connection_advice(error)}"
            ) from error
        renew_after_fork(self)

    @property
    def _client(self) -> grpc.InferenceServerClient:
        """The connection; the first use in a forked child makes a new one."""
        client = self._connected
        if client is None:
            if self._forked and not _grpc_survives_forks():
                raise ServerError(
                    f"Triton at {self.url}: this process was forked, and GRPC_ENABLE_FORK_SUPPORT "
                    "switches off what gRPC needs for that; unset it, or open the client after the "
                    "fork in a process that has not used gRPC before"
                )
            with self._lock:
                if self._connected is None:
                    arguments = self._tls.channel_arguments() if self._tls else {}
                    self._connected = grpc.InferenceServerClient(
                        self.url, channel_args=_CHANNEL, **arguments
                    )
                client = self._connected
        return client

    def after_fork(self) -> None:
        """Drop the parent's connection in a forked child."""
        abandon(self._connected)
        self._connected = None
        self._forked = True
        self._lock = Lock()

    def _check(self) -> None:
        """Find the served versions of this bundle, and remember them."""
        timeout = self._connect_timeout
        limits = []
        versions = {}
        for model in (TEXT_MODEL, IMAGE_MODEL):
            if not self._client.is_model_ready(model, client_timeout=timeout):
                raise ServerUnavailable(f"Triton at {self.url}: model {model} is not ready")
            newest, config = self._newest(model)
            served = config.parameters[BUNDLE_PARAMETER].string_value
            if served != self._bundle.bundle_id:
                state = "is now of" if self._versions else "is of"
                advice = "open the new one, and its index" if self._versions else "serve the same"
                raise ServerError(
                    f"Triton at {self.url}: {model} {state} bundle {served or 'unknown'}, but "
                    f"{self._bundle.folder} is bundle {self._bundle.bundle_id}; {advice} repository"
                )
            limits.append(config.max_batch_size)
            versions[model] = newest
        self.max_batch_size = min(limits)
        self._versions = versions

    def _newest(self, model: str) -> tuple[str, Any]:
        """Return the newest version that is served, and its configuration."""
        timeout = self._connect_timeout
        for last in (False, False, True):
            present = self._client.get_model_metadata(model, client_timeout=timeout).versions
            newest = str(max(map(int, present)))
            try:
                answer = self._client.get_model_config(model, newest, client_timeout=timeout)
                return newest, answer.config
            except InferenceServerException:  # a newer version replaced it meanwhile
                if last:
                    raise
        raise AssertionError("unreachable")

    def _connection_advice(self, error: InferenceServerException) -> str:
        message = str(error.message())
        if "CERTIFICATE_VERIFY_FAILED" in message or "certificate verify failed" in message:
            return (
                "its certificate is not signed by the authority that was given, or is of another "
                f"host; give the right one with --tls-ca ({message})"
            )
        if "handshake" in message.lower() or "SSL_ERROR" in message:
            return (
                "no TLS connection; does it speak TLS, and does it ask for a client's certificate "
                f"(--tls-cert, --tls-key)? ({message})"
            )
        hint = "" if self._tls else "; if it speaks TLS, say grpcs://HOST:PORT"
        return f"{message}; start one with `vireo serve REPOSITORY`{hint}"

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Embed ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`.

        Raises:
            ServerError: the server fails, or serves another bundle by now. The subclass says
                whether it is away, too slow, overloaded, or refuses the request.
        """
        return self._infer(TEXT_MODEL, "input_ids", "INT32", input_ids)

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`.

        Raises:
            ServerError: the server fails, or serves another bundle by now. The subclass says
                whether it is away, too slow, overloaded, or refuses the request.
        """
        return self._infer(IMAGE_MODEL, "pixels", "UINT8", pixels)

    def _infer(
        self, model: str, name: str, dtype: str, values: npt.NDArray[np.generic]
    ) -> npt.NDArray[np.float32]:
        tensor = grpc.InferInput(name, list(values.shape), dtype)
        tensor.set_data_from_numpy(values)
        output = grpc.InferRequestedOutput("embedding")
        answer = None
        while answer is None:
            version = self._versions[model]
            try:
                answer = self._client.infer(
                    model,
                    [tensor],
                    version,
                    outputs=[output],
                    priority=self._priority,
                    timeout=int(self._timeout * 1e6),
                    client_timeout=self._timeout,
                )
            except InferenceServerException as error:
                if not self._moved_on(model, version):
                    raise _server_error(
                        error, f"Triton at {self.url}: {model}: {error.message()}"
                    ) from error
        vectors = answer.as_numpy("embedding")
        if vectors is None or len(vectors) != len(values):
            # A Python backend under numpy 2 answers with empty outputs and reports success.
            raise ServerError(
                f"Triton at {self.url}: {model} gave an empty answer; its Python environment must "
                "hold numpy 1.26"
            )
        return np.asarray(vectors, dtype=np.float32)

    def _moved_on(self, model: str, version: str) -> bool:
        """Return whether another version of the same bundle is served in place of `version`."""
        try:
            if self._client.is_model_ready(model, version, client_timeout=self._connect_timeout):
                return False
            self._check()
        except InferenceServerException:
            return False  # the server is gone; the first error is the one to show
        return self._versions[model] != version

    def close(self) -> None:
        """Close the connection."""
        if self._connected is not None:
            self._connected.close()


def _grpc_survives_forks() -> bool:
    """Return whether gRPC renews its own threads in a forked child, as it does by default."""
    return os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "1").lower() in ("1", "true", "yes", "on", "")


_CHANNEL = [
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_SIZE),
    # Otherwise gRPC gives a new channel the connection of an older one to the same address, and a
    # forked child that of its parent.
    ("grpc.use_local_subchannel_pool", 1),
]

_REJECTED = ("INVALID_ARGUMENT", "UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED")


def _server_error(error: InferenceServerException, message: str) -> ServerError:
    """Choose the class of an error by its gRPC status.

    Triton's queues have one status, UNAVAILABLE, for a full queue and for a request that waited too
    long, and it is also gRPC's own for a server that cannot be reached: the text tells them apart.
    """
    status = str(error.status()).removeprefix("StatusCode.")
    text = str(error.message())
    if status == "DEADLINE_EXCEEDED":
        return ServerTimeout(message)
    if status == "UNAVAILABLE":
        if "maximum queue size" in text:
            return ServerOverloaded(message)
        if "timeout expired" in text:
            return ServerTimeout(message)
        return ServerUnavailable(message)
    if status == "RESOURCE_EXHAUSTED":  # gRPC's limit of a message's size has this status too
        return (ServerRejected if "larger than max" in text else ServerOverloaded)(message)
    return (ServerRejected if status in _REJECTED else ServerError)(message)
