"""The towers behind Triton Inference Servers, over gRPC."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc

from ..bundle import Bundle
from ..errors import ServerError
from ..forks import abandon, renew_after_fork
from ..telemetry import stage
from .connection import ConnectionOptions, read_addresses
from .exchange import IMAGE, TEXT, Exchange, ServerTimes
from .pool import Endpoint
from .steps import Ask, Steps, Wait
from .tls import ClientTls

T = TypeVar("T")
_JOIN_SECONDS = 2.0


class TritonTowers:
    """Runs the towers on a Triton server, or on several that serve the same bundle.

    The constructor checks that the servers are ready and serve the engines of this very bundle:
    embeddings of two models in one index would be wrong without an error. Each request then asks
    for the version that was checked. When a server has replaced it by a newer one, that one is
    checked: the same bundle goes on, another one is an error.

    Of several servers, the healthy one with the fewest requests under way gets the next. One that
    fails is put aside, and its request goes to another; a thread looks at it until it answers
    again. Threads may share the object.

    Args:
        bundle: the bundle that the client preprocesses for.
        url: `host:port` of Triton's gRPC endpoint; `grpcs://host:port` where it speaks TLS. Several
            are joined by commas, or given as a sequence.
        tls: certificates; where they are given, TLS is used.
        connect_timeout: the option of that name, in place of the one in `options`.
        request_timeout: the option of that name, in place of the one in `options`.
        bulk: whether any query overtakes these requests, as when images are indexed, on a server
            with queue limits.
        options: timeouts, retries, headers and the like.

    Raises:
        ServerUnavailable: no server answers, or a model is not ready.
        ServerTimeout: no server answers within `connect_timeout`.
        ServerError: the servers serve engines of another bundle, or an option is wrong.
    """

    name = "triton"
    batches_in_flight = 3
    """One runs, one waits in the server's queue, one is on the way."""

    def __init__(
        self,
        bundle: Bundle,
        url: str | Sequence[str] = "127.0.0.1:8001",
        *,
        tls: ClientTls | None = None,
        connect_timeout: float | None = None,
        request_timeout: float | None = None,
        bulk: bool = False,
        options: ConnectionOptions | None = None,
    ) -> None:
        self.options = (options or ConnectionOptions()).with_given(
            connect_timeout=connect_timeout, request_timeout=request_timeout
        )
        endpoints = [Endpoint(*address) for address in read_addresses(url, tls)]
        self.url = ",".join(endpoint.url for endpoint in endpoints)
        self._forked = False
        self._closed = Event()
        self._lock = Lock()
        self._probes: list[Thread] = []
        self._exchange = Exchange(
            bundle, endpoints, self.options, bulk=bulk, on_aside=self._start_probe
        )
        try:
            self._check_all()
        except BaseException:
            self.close()
            raise
        renew_after_fork(self)

    @property
    def max_batch_size(self) -> int:
        """The batch that every server takes."""
        return self._exchange.max_batch_size

    @property
    def server_version(self) -> str:
        """The version of Triton."""
        return self._exchange.server_version

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Embed ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`.

        Raises:
            ServerError: the server fails, or serves another bundle by now. The subclass says
                whether it is away, too slow, overloaded, or refuses the request.
        """
        with stage("request"):
            return self._run(self._exchange.embed(TEXT, input_ids))

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`.

        Raises:
            ServerError: the server fails, or serves another bundle by now. The subclass says
                whether it is away, too slow, overloaded, or refuses the request.
        """
        with stage("request"):
            return self._run(self._exchange.embed(IMAGE, pixels))

    def server_times(self) -> dict[str, dict[str, ServerTimes]]:
        """Return how long requests waited and were computed: by server, by model.

        Triton counts since it loaded a model, for all of its clients together.

        Raises:
            ServerError: a healthy server does not answer.
        """
        return self._run(self._exchange.server_times())

    def _check_all(self) -> None:
        """Check all servers at once; one that fails is put aside if another is right."""
        endpoints = self._exchange.pool.endpoints
        if len(endpoints) == 1:
            self._run(self._exchange.check(endpoints[0]))
            return
        with ThreadPoolExecutor(len(endpoints), thread_name_prefix="vireo-connect") as threads:
            failures = list(threads.map(self._failure, endpoints))
        self._exchange.put_aside_failed(failures)

    def _failure(self, endpoint: Endpoint) -> ServerError | None:
        try:
            self._run(self._exchange.check(endpoint))
        except ServerError as error:
            return error
        return None

    def _run(self, steps: Steps[T]) -> T:
        """Take steps until they have come to their result."""
        answer: Any = None
        error: Exception | None = None
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                try:
                    answer = self._take(step)
                except Exception as caught:  # the steps decide what becomes of it
                    error = caught
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    def _take(self, step: Ask | Wait) -> Any:
        if isinstance(step, Wait):
            self._closed.wait(step.seconds)
            return None
        try:
            return getattr(self._client(step.endpoint), step.method)(
                *step.arguments, **step.options
            )
        except ValueError as error:  # of gRPC, for a channel that was closed in another thread
            if self._closed.is_set():
                raise ServerError(f"{step.endpoint.name}: this client was closed") from error
            raise

    def _client(self, endpoint: Endpoint) -> grpc.InferenceServerClient:
        """Return the connection; the first use in a forked child makes a new one."""
        if endpoint.client is None:
            if self._forked and not _grpc_survives_forks():
                raise ServerError(
                    f"{endpoint.name}: this process was forked, and GRPC_ENABLE_FORK_SUPPORT "
                    "switches off what gRPC needs for that; unset it, or open the client after the "
                    "fork in a process that has not used gRPC before"
                )
            with self._lock:
                if self._closed.is_set():
                    raise ServerError(f"{endpoint.name}: this client was closed")
                if endpoint.client is None:
                    arguments = endpoint.tls.channel_arguments() if endpoint.tls else {}
                    endpoint.client = grpc.InferenceServerClient(
                        endpoint.url, channel_args=self.options.channel_arguments(), **arguments
                    )
        return endpoint.client

    def _start_probe(self, endpoint: Endpoint) -> None:
        """Look at a server in the background until it answers again."""
        thread = Thread(
            target=self._probe, args=(endpoint,), daemon=True, name=f"vireo-probe {endpoint.url}"
        )
        with self._lock:
            self._probes = [probe for probe in self._probes if probe.is_alive()]
            if self._closed.is_set():
                return
            thread.start()
            self._probes.append(thread)

    def _probe(self, endpoint: Endpoint) -> None:
        while not self._closed.is_set():
            error = self._failure(endpoint)
            if error is None:
                self._exchange.pool.put_back(endpoint)
                return
            endpoint.aside = error
            self._closed.wait(self.options.probe_interval)

    def after_fork(self) -> None:
        """Drop the parent's connections in a forked child."""
        for endpoint in self._exchange.pool.endpoints:
            abandon(endpoint.client)
        self._exchange.pool.after_fork()
        if self._exchange.regions:
            self._exchange.regions.after_fork()
        abandon(self._closed)
        closed = self._closed.is_set()
        self._closed = Event()
        if closed:
            self._closed.set()
        self._probes = []
        self._forked = True
        self._lock = Lock()

    def close(self) -> None:
        """Close the connections, free shared memory, and end the threads that look at servers."""
        if self._exchange.regions and not self._closed.is_set():
            self._run(self._exchange.regions.close())
        self._closed.set()
        with self._lock:
            for endpoint in self._exchange.pool.endpoints:
                if endpoint.client is not None:
                    endpoint.client.close()
        for probe in self._probes:
            probe.join(_JOIN_SECONDS)


def _grpc_survives_forks() -> bool:
    """Return whether gRPC renews its own threads in a forked child, as it does by default."""
    return os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "1").lower() in ("1", "true", "yes", "on", "")
