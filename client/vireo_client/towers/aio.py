"""The towers behind Triton Inference Servers, over gRPC, in an asyncio program."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tritonclient.grpc.aio as grpc
from grpc.aio import UsageError
from tritonclient.utils import InferenceServerException

from ..bundle import Bundle
from ..errors import ServerError
from ..telemetry import stage
from .connection import ConnectionOptions, read_addresses
from .exchange import IMAGE, TEXT, Exchange, ServerTimes
from .joining import Joiner
from .pool import Endpoint
from .steps import Ask, Steps, Wait
from .tls import ClientTls

T = TypeVar("T")


class AsyncTritonTowers:
    """Runs the towers on Triton as `TritonTowers` does, with the same methods to be awaited.

    `connect` makes the checks; `async with` calls it, and so does the first request. Tasks may
    share the object, but it belongs to the event loop in which it connected. It cannot be carried
    into a forked child.

    Texts of concurrent `encode_text` calls are sent together, where that costs no time. A cancelled
    task cancels its request; where its texts were sent with others', those are answered.

    Args:
        bundle: the bundle that the client preprocesses for.
        url: `[grpcs://]host:port`; several are joined by commas, or given as a sequence.
        tls: certificates; where they are given, TLS is used.
        connect_timeout: the option of that name, in place of the one in `options`.
        request_timeout: the option of that name, in place of the one in `options`.
        bulk: whether any query overtakes these requests.
        options: timeouts, retries, headers and the like.

    Raises:
        ServerError: an option is wrong. No server is asked yet.
    """

    name = "triton"

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connected: asyncio.Task[None] | None = None
        self._closed = False
        self._probes: set[asyncio.Task[None]] = set()
        self._exchange = Exchange(
            bundle, endpoints, self.options, bulk=bulk, on_aside=self._start_probe
        )
        self._joiner = Joiner(
            self._send_text, lambda: self._exchange.max_batch_size, self.options.join_window
        )

    @property
    def max_batch_size(self) -> int:
        """The batch that every server takes; known once it is connected."""
        return self._exchange.max_batch_size

    @property
    def server_version(self) -> str:
        """The version of Triton; known once it is connected."""
        return self._exchange.server_version

    async def connect(self) -> None:
        """Check that the servers are ready and serve this bundle; the second call does nothing.

        Raises:
            ServerUnavailable: no server answers, or a model is not ready.
            ServerTimeout: no server answers within `connect_timeout`.
            ServerError: the servers serve engines of another bundle, or this client was closed, or
                belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ServerError(f"Triton at {self.url}: this client was closed")
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise ServerError(
                f"Triton at {self.url}: this client belongs to another event loop; make one in each"
            )
        if self._connected is None or _failed(self._connected):
            self._connected = loop.create_task(self._check_all())
        if not self._connected.done():
            # Who waits for the check may be cancelled; others may wait for it, too.
            await asyncio.shield(self._connected)
        self._connected.result()

    async def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """Embed ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`.

        Raises:
            ServerError: as `TritonTowers.encode_text`, and `connect`.
        """
        await self.connect()
        with stage("request"):
            if np.ndim(input_ids) != 2:  # the server says what is wrong with it
                return await self._send_text(input_ids)
            return await self._joiner.embed(input_ids)

    async def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`.

        Raises:
            ServerError: as `TritonTowers.encode_image`, and `connect`.
        """
        await self.connect()
        with stage("request"):
            return await self._run(self._exchange.embed(IMAGE, pixels))

    async def server_times(self) -> dict[str, dict[str, ServerTimes]]:
        """Return how long requests waited and were computed: by server, by model.

        Triton counts since it loaded a model, for all of its clients together.

        Raises:
            ServerError: a healthy server does not answer.
        """
        await self.connect()
        return await self._run(self._exchange.server_times())

    async def _send_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        return await self._run(self._exchange.embed(TEXT, input_ids))

    async def _check_all(self) -> None:
        """Check all servers at once; one that fails is put aside if another is right."""
        failures = await asyncio.gather(*map(self._failure, self._exchange.pool.endpoints))
        self._exchange.put_aside_failed(failures)

    async def _failure(self, endpoint: Endpoint) -> ServerError | None:
        try:
            await self._run(self._exchange.check(endpoint))
        except ServerError as error:
            return error
        return None

    async def _run(self, steps: Steps[T]) -> T:
        """Take steps until they have come to their result."""
        answer: Any = None
        error: Exception | None = None
        try:
            while True:
                step = steps.send(answer) if error is None else steps.throw(error)
                answer = error = None
                try:
                    answer = await self._take(step)
                except Exception as caught:  # the steps decide what becomes of it
                    error = caught
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            steps.close()

    async def _take(self, step: Ask | Wait) -> Any:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        method = getattr(self._client(step.endpoint), step.method)
        try:
            answer = await method(*step.arguments, **step.options)
        except UsageError as error:  # the channel was closed by another task
            raise ServerError(f"{step.endpoint.name}: this client was closed") from error
        except asyncio.CancelledError:
            # A channel that another task closes cancels its calls, and not the tasks that wait.
            if self._closed and not _is_cancelled():
                raise ServerError(f"{step.endpoint.name}: this client was closed") from None
            raise
        except AttributeError:  # `None.ready`: see below
            raise _undecodable() from None
        # Where bytes are no message, grpc.aio logs that and returns None; grpc raises an error.
        message = answer.get_response() if step.method == "infer" else answer
        if message is None and not step.method.endswith("shared_memory"):  # these return nothing
            raise _undecodable()
        return answer

    def _client(self, endpoint: Endpoint) -> grpc.InferenceServerClient:
        if self._closed:
            raise ServerError(f"{endpoint.name}: this client was closed")
        if endpoint.client is None:
            arguments = endpoint.tls.channel_arguments() if endpoint.tls else {}
            endpoint.client = grpc.InferenceServerClient(
                endpoint.url, channel_args=self.options.channel_arguments(), **arguments
            )
        return endpoint.client

    def _start_probe(self, endpoint: Endpoint) -> None:
        """Look at a server in the background until it answers again."""
        probe = asyncio.get_running_loop().create_task(self._probe(endpoint))
        self._probes.add(probe)
        probe.add_done_callback(self._probes.discard)

    async def _probe(self, endpoint: Endpoint) -> None:
        while error := await self._failure(endpoint):
            endpoint.aside = error
            await asyncio.sleep(self.options.probe_interval)
        self._exchange.pool.put_back(endpoint)

    async def close(self) -> None:
        """Close the connections, free shared memory, and cancel what is under way."""
        if self._closed:
            return
        if self._exchange.regions and self._loop is not None:
            await self._run(self._exchange.regions.close())
        self._closed = True
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        await self._joiner.close()
        for endpoint in self._exchange.pool.endpoints:
            if endpoint.client is not None:
                await endpoint.client.close()

    async def __aenter__(self) -> AsyncTritonTowers:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _undecodable() -> InferenceServerException:
    return InferenceServerException("its answer cannot be decoded", "StatusCode.INTERNAL")


def _is_cancelled() -> bool:
    """Return whether somebody cancelled this task; Python 3.10 does not tell."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
