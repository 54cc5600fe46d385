"""What is said to Triton, step by step, without the input and output itself.

The synchronous and the asynchronous client run the same steps: a generator yields what to ask, or
how long to wait; the client does it and sends the answer back. So both check, retry and fail alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ..bundle import Bundle
from ..errors import (
    ServerError,
    ServerOverloaded,
    ServerRejected,
    ServerTimeout,
    ServerUnavailable,
)
from ..repository import (
    BULK_PRIORITY,
    BUNDLE_PARAMETER,
    IMAGE_MODEL,
    MODELS,
    QUERY_PRIORITY,
    TEXT_MODEL,
)
from ..telemetry import trace_headers
from .answers import (
    OUTPUT,
    MessageTooLarge,
    WrongBundle,
    newest_version,
    read_embeddings,
    server_error,
)
from .connection import ConnectionOptions
from .pool import Endpoint, Pool
from .retries import RETRIED, Deadline, pause_before_retry
from .shared_memory import Regions
from .steps import Ask, Steps, Wait

Embeddings = npt.NDArray[np.float32]
_ENVELOPE = 4096
"""Bytes of a request beside its values, at most."""
_SILENCE = 1.0
"""Seconds without an answer in which a server may have been exchanged for another, unseen: to start
one takes longer, and a client that asks meanwhile gets an error."""


class Tower(NamedTuple):
    """A model and its input."""

    model: str
    input: str
    dtype: str


class ServerTimes(NamedTuple):
    """What a model of one server did since it was loaded, for all clients together."""

    requests: int
    queue_seconds: float
    """The time that requests waited for the model, in all."""
    compute_seconds: float
    """The time that the model worked on them, in all."""


TEXT = Tower(TEXT_MODEL, "input_ids", "INT32")
IMAGE = Tower(IMAGE_MODEL, "pixels", "UINT8")


@dataclass
class _Request:
    """A batch for one tower, and when its answer must be there."""

    tower: Tower
    values: npt.NDArray[np.generic]
    deadline: Deadline


class Exchange:
    """The steps of one client.

    Args:
        bundle: the bundle that the client preprocesses for.
        endpoints: the servers.
        options: timeouts and retries.
        bulk: whether any query overtakes these requests.
        on_aside: called with a server that is put aside.
    """

    def __init__(
        self,
        bundle: Bundle,
        endpoints: list[Endpoint],
        options: ConnectionOptions,
        *,
        bulk: bool,
        on_aside: Callable[[Endpoint], None],
    ) -> None:
        self.options = options
        self.pool = Pool(endpoints, on_aside)
        self.regions = Regions(options, endpoints) if options.shared_memory else None
        self._bundle = bundle
        self._priority = BULK_PRIORITY if bulk else QUERY_PRIORITY

    @property
    def max_batch_size(self) -> int:
        """The batch that every server takes."""
        return min(e.max_batch_size for e in self.pool.endpoints if e.max_batch_size)

    @property
    def server_version(self) -> str:
        """The version of the first server that was checked."""
        return next(e.server_version for e in self.pool.endpoints if e.server_version)

    def check(self, endpoint: Endpoint, deadline: Deadline | None = None) -> Steps[dict[str, str]]:
        """Find the served versions of this bundle, by model, and remember them.

        Raises:
            ServerUnavailable: the server does not answer, or a model is not ready.
            WrongBundle: the engines are of another bundle.
            ServerError: the answers make no sense.
        """
        deadline = deadline or Deadline(self.options.connect_timeout * 10)
        limits, versions = [], {}
        for model in MODELS:
            if not (yield from self._ask(endpoint, deadline, "is_model_ready", model)):
                raise ServerUnavailable(f"{endpoint.name}: model {model} is not ready")
            version, config = yield from self._newest(endpoint, deadline, model)
            served = config.parameters[BUNDLE_PARAMETER].string_value
            if served != self._bundle.bundle_id:
                state, advice = ("is of", "serve the same")
                if endpoint.max_batch_size:
                    state, advice = ("is now of", "open the new one, and its index")
                raise WrongBundle(
                    f"{endpoint.name}: {model} {state} bundle {served or 'unknown'}, but "
                    f"{self._bundle.folder} is bundle {self._bundle.bundle_id}; {advice} repository"
                )
            if config.max_batch_size < 1:
                raise ServerError(f"{endpoint.name}: {model} takes no batches; export it again")
            limits.append(config.max_batch_size)
            versions[model] = version
        metadata = yield from self._ask(endpoint, deadline, "get_server_metadata")
        if self.regions and endpoint.aside is None:
            yield from self.regions.try_out(endpoint)
        endpoint.server_version = str(metadata.version) or "unknown"
        endpoint.max_batch_size = min(limits)
        endpoint.versions = versions
        endpoint.answered_at = time.monotonic()
        return versions

    def put_aside_failed(self, failures: Iterable[ServerError | None]) -> None:
        """Put those servers aside whose first check failed.

        Args:
            failures: of each server in turn, the error or None.

        Raises:
            ServerError: all of them failed.
        """
        errors = {e: error for e, error in zip(self.pool.endpoints, failures, strict=True) if error}
        if len(errors) == len(self.pool.endpoints):
            raise _all_failed(list(errors.values()))
        for endpoint, error in errors.items():
            self.pool.put_aside(endpoint, error)

    def server_times(self) -> Steps[dict[str, dict[str, ServerTimes]]]:
        """Ask the healthy servers for their statistics.

        Raises:
            ServerError: one does not answer.
        """
        deadline = Deadline(self.options.request_timeout)
        times: dict[str, dict[str, ServerTimes]] = {}
        for endpoint in [e for e in self.pool.endpoints if e.aside is None]:
            times[endpoint.url] = {}
            for model in MODELS:
                answer = yield from self._ask(endpoint, deadline, "get_inference_statistics", model)
                sums = [stats.inference_stats for stats in answer.model_stats]
                compute = sum(
                    s.compute_input.ns + s.compute_infer.ns + s.compute_output.ns for s in sums
                )
                times[endpoint.url][model] = ServerTimes(
                    sum(s.success.count for s in sums), sum(s.queue.ns for s in sums) / 1e9,
                    compute / 1e9,
                )  # fmt: skip
        return times

    def _newest(self, endpoint: Endpoint, deadline: Deadline, model: str) -> Steps[tuple[str, Any]]:
        """Return the newest version that is served, and its configuration."""
        for last in (False, False, True):
            metadata = yield from self._ask(endpoint, deadline, "get_model_metadata", model)
            newest = newest_version(metadata.versions, f"{endpoint.name}: {model}")
            try:
                answer = yield from self._ask(endpoint, deadline, "get_model_config", model, newest)
                return newest, answer.config
            except ServerError:  # a newer version replaced it meanwhile
                if last:
                    raise
        raise AssertionError("unreachable")

    def _ask(self, endpoint: Endpoint, deadline: Deadline, method: str, *words: str) -> Steps[Any]:
        """Ask for something small; an error says what may be wrong with the connection."""
        timeout = min(self.options.connect_timeout, deadline.left())
        options = {"headers": dict(self.options.headers), "client_timeout": timeout}
        try:
            return (yield Ask(endpoint, method, words, options))
        except InferenceServerException as error:
            advice = _connection_advice(self._text(error), tls=endpoint.tls is not None)
            raise server_error(error, f"{endpoint.name}: {advice}") from None

    def embed(self, tower: Tower, values: npt.NDArray[np.generic]) -> Steps[Embeddings]:
        """Embed a batch of ids or pixels, in several requests where it is too large for one.

        Raises:
            ServerError: as the subclass says.
        """
        deadline = Deadline(self.options.request_timeout)
        dim = self._bundle.config.embedding_dim
        count, size = len(values), self._rows_a_message(values)
        out = np.empty((count, dim), dtype=np.float32)
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        while parts:
            part = parts.pop(0)
            try:
                out[part] = yield from self._send(_Request(tower, values[part], deadline))
            except MessageTooLarge:
                rows = part.stop - part.start
                if rows == 1:
                    raise
                # Something on the way allows less than was said; the halves may pass.
                middle = part.start + rows // 2
                parts[:0] = [slice(part.start, middle), slice(middle, part.stop)]
        return out

    def _rows_a_message(self, values: npt.NDArray[np.generic]) -> int:
        row = values[:1].nbytes or 1
        return max(1, (self.options.max_message_bytes - _ENVELOPE) // row)

    def _send(self, request: _Request) -> Steps[Embeddings]:
        """Send one request, again and elsewhere where that is safe."""
        tried: set[Endpoint] = set()
        retries = self.options.retries and max(self.options.retries, len(self.pool) - 1)
        for retry in range(retries + 1):
            with self.pool.borrow(tried) as endpoint:
                try:
                    return (yield from self._infer(endpoint, request))
                except ServerError as error:
                    failure = error
            tried.add(endpoint)
            if isinstance(failure, ServerUnavailable):
                endpoint.versions = {}  # what comes back may be another server
            if isinstance(failure, (ServerUnavailable, ServerTimeout, WrongBundle)):
                self.pool.put_aside(endpoint, failure)
            elsewhere = self.pool.has_untried(tried)
            if retry == retries or not (
                isinstance(failure, RETRIED) or (isinstance(failure, WrongBundle) and elsewhere)
            ):
                break
            if not elsewhere:
                pause = pause_before_retry(failure, retry) if isinstance(failure, RETRIED) else 0
                if pause >= request.deadline.left():
                    break
                yield Wait(pause)
        raise failure

    def _infer(self, endpoint: Endpoint, request: _Request) -> Steps[Embeddings]:
        """Have one server embed a batch, by the version of this bundle that it serves."""
        model = request.tower.model
        where = f"{endpoint.name}: {model}"
        while True:
            version = yield from self._confirmed(endpoint, model, request.deadline)
            try:
                answer = yield from self._request(endpoint, request, version)
                endpoint.answered_at = time.monotonic()
                return read_embeddings(
                    answer.get_response(), len(request.values),
                    self._bundle.config.embedding_dim, where,
                )  # fmt: skip
            except InferenceServerException as error:
                failure = server_error(error, f"{where}: {self._text(error)}")
                too_late = isinstance(failure, (ServerTimeout, ServerOverloaded, MessageTooLarge))
                if too_late or not (
                    yield from self._moved_on(endpoint, model, version, request.deadline)
                ):
                    raise failure from None

    def _confirmed(self, endpoint: Endpoint, model: str, deadline: Deadline) -> Steps[str]:
        """Return the version to ask for.

        A server of which nothing is known, or which may have been exchanged meanwhile, is checked.
        """
        version = endpoint.versions.get(model)  # another thread may empty it at any moment
        try:
            if version is not None:
                if time.monotonic() - endpoint.answered_at < _SILENCE:
                    return version
                if (yield from self._is_unchanged(endpoint, model, version, deadline)):
                    endpoint.answered_at = time.monotonic()
                    return version
            return (yield from self.check(endpoint, deadline))[model]
        except ServerTimeout as error:
            if not deadline.left():
                raise
            # It did not answer a small question, and there is time to ask another server.
            raise ServerUnavailable(str(error)) from error

    def _is_unchanged(
        self, endpoint: Endpoint, model: str, version: str, deadline: Deadline
    ) -> Steps[bool]:
        try:
            answer = yield from self._ask(endpoint, deadline, "get_model_config", model, version)
        except (ServerUnavailable, ServerTimeout):
            raise
        except ServerError:
            return False  # the version is not there any more
        served = answer.config.parameters[BUNDLE_PARAMETER].string_value
        return bool(served == self._bundle.bundle_id)

    def _request(self, endpoint: Endpoint, request: _Request, version: str) -> Steps[Any]:
        left = request.deadline.left()
        options = {
            "outputs": [grpc.InferRequestedOutput(OUTPUT)],
            "priority": self._priority,
            "timeout": max(1, int(left * 1e6)),
            "client_timeout": left,
            "headers": {**trace_headers(), **self.options.headers},
        }
        tower, values = request.tower, request.values
        tensor = grpc.InferInput(tower.input, list(values.shape), tower.dtype)
        if self.regions and tower is IMAGE and self.regions.usable(endpoint):
            return (
                yield from self.regions.infer(
                    endpoint, tensor, values, (tower.model, version), options
                )
            )
        try:
            tensor.set_data_from_numpy(values)
        except InferenceServerException as error:
            raise ServerRejected(f"{endpoint.name}: {tower.model}: {error.message()}") from None
        return (yield Ask(endpoint, "infer", (tower.model, [tensor], version), options))

    def _moved_on(
        self, endpoint: Endpoint, model: str, version: str, deadline: Deadline
    ) -> Steps[bool]:
        """Return whether another version of the same bundle is served in place of `version`."""
        try:
            if (yield from self._ask(endpoint, deadline, "is_model_ready", model, version)):
                return False
            return (yield from self.check(endpoint, deadline))[model] != version
        except WrongBundle:
            raise
        except ServerError:
            return False  # the server is gone; the first error is the one to show

    def _text(self, error: InferenceServerException) -> str:
        return self.options.without_secrets(str(error.message()))


def _all_failed(errors: list[ServerError]) -> ServerError:
    """Make one error of those of all servers."""
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else ServerError
    return errors[0] if len(errors) == 1 else kind("; ".join(map(str, errors)))


def _connection_advice(message: str, *, tls: bool) -> str:
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
    hint = "" if tls else "; if it speaks TLS, say grpcs://HOST:PORT"
    return f"{message}; start one with `vireo serve REPOSITORY`{hint}"
