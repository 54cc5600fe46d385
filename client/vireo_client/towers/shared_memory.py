"""Sends pixels through memory that the client shares with a Triton on the same machine.

Each request under way has a region of its own, registered with one server. Triton's shared memory
extensions describe the protocol (`docs/protocol/extension_shared_memory.md` in its repository).
"""

from __future__ import annotations

import ipaddress
import itertools
import logging
import os
import time
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.utils import InferenceServerException

from ..errors import ServerError
from ..forks import abandon
from .answers import server_error
from .connection import ConnectionOptions
from .pool import Endpoint
from .steps import Ask, Steps

_log = logging.getLogger(__name__)
_numbers = itertools.count()
_FILES = Path("/dev/shm")
_DEVICE = 0
_TRIAL_BYTES = 4096


class SystemRegion:
    """A region of this machine's memory.

    Python's resource tracker, a process of its own, unlinks it if this process is killed.
    """

    registration = "system_shared_memory"

    def __init__(self, size: int) -> None:
        from tritonclient.utils import shared_memory

        self.name = f"vireo_{os.getpid()}_client_{next(_numbers)}"
        self.size = size
        self.registered = False
        self._library = shared_memory
        self._handle = shared_memory.create_shared_memory_region(
            self.name, self.name, size, create_only=True
        )
        if _FILES.is_dir():
            # Otherwise a full /dev/shm (64 MiB in many containers) kills the process that writes.
            with (_FILES / self.name).open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, size)
                except OSError:
                    self.destroy()
                    raise

    def registering(self) -> tuple[Any, ...]:
        """Return the arguments with which a server registers it."""
        return (self.name, f"/{self.name}", self.size)

    def write(self, values: npt.NDArray[np.generic]) -> None:
        """Copy values to its beginning."""
        self._library.set_shared_memory_region(self._handle, [values])

    def destroy(self) -> None:
        """Free and unlink it."""
        self._library.destroy_shared_memory_region(self._handle)


class CudaRegion:
    """A region of the memory of the first GPU."""

    registration = "cuda_shared_memory"

    def __init__(self, size: int) -> None:
        from tritonclient.utils import cuda_shared_memory  # needs cuda-python and a GPU

        self.name = f"vireo_{os.getpid()}_client_{next(_numbers)}"
        self.size = size
        self.registered = False
        self._library = cuda_shared_memory
        self._handle = cuda_shared_memory.create_shared_memory_region(self.name, size, _DEVICE)

    def registering(self) -> tuple[Any, ...]:
        """Return the arguments with which a server registers it."""
        return (self.name, self._library.get_raw_handle(self._handle), _DEVICE, self.size)

    def write(self, values: npt.NDArray[np.generic]) -> None:
        """Copy values to its beginning."""
        self._library.set_shared_memory_region(self._handle, [np.ascontiguousarray(values)])

    def destroy(self) -> None:
        """Free it."""
        self._library.destroy_shared_memory_region(self._handle)


class Regions:
    """The regions of one client.

    Args:
        options: which kind, and whether gRPC may take its place.
        endpoints: the servers.

    Raises:
        ServerError: a server is on another machine, and gRPC may not take its place.
    """

    def __init__(self, options: ConnectionOptions, endpoints: list[Endpoint]) -> None:
        self._options = options
        self._kind = CudaRegion if options.shared_memory == "cuda" else SystemRegion
        self._lock = Lock()
        self._free: dict[Endpoint, list[SystemRegion | CudaRegion]] = {e: [] for e in endpoints}
        self._late: list[tuple[float, Endpoint, SystemRegion | CudaRegion]] = []
        self._without: set[Endpoint] = set()
        self._closed = False
        for endpoint in endpoints:
            if not is_loopback(endpoint.url):
                self._refuse(endpoint, "it is not at a loopback address, so perhaps elsewhere")

    def _refuse(self, endpoint: Endpoint, reason: str) -> None:
        message = f"{endpoint.name}: no shared memory: {reason}"
        if not self._options.shared_memory_fallback:
            raise ServerError(
                f"{message}; leave shared_memory away, or set shared_memory_fallback to use gRPC"
            )
        _log.warning("%s; pixels go through gRPC", message)
        self._without.add(endpoint)

    def usable(self, endpoint: Endpoint) -> bool:
        """Return whether pixels for a server go through shared memory."""
        return endpoint not in self._without

    def try_out(self, endpoint: Endpoint) -> Steps[None]:
        """Find out whether a server lets this client share memory with it.

        Raises:
            ServerError: it does not, and gRPC may not take its place.
        """
        if not self.usable(endpoint):
            return
        try:
            region = self._create(_TRIAL_BYTES)
        except ServerError as error:
            self._refuse(endpoint, str(error))
            return
        try:
            yield from self._register(endpoint, region)
            yield from self._unregister(endpoint, region)
        except InferenceServerException as error:
            self._refuse(
                endpoint,
                f"{server_error(error, str(error.message()))}; does it run on this machine, with "
                "the same /dev/shm, and does `headers` hold its admin key?",
            )
        finally:
            self._destroy(region)

    def infer(
        self,
        endpoint: Endpoint,
        tensor: Any,
        values: npt.NDArray[np.generic],
        model: tuple[str, str],
        options: dict[str, Any],
    ) -> Steps[Any]:
        """Ask for one inference whose values lie in a region."""
        # Each is large enough for a full batch, so that any request fits into any region.
        row = values[:1].nbytes
        region = self._take(endpoint, max(len(values), endpoint.max_batch_size) * row)
        answered = False
        try:
            region.write(values)
            tensor.set_shared_memory(region.name, values.nbytes)
            known = region.registered
            if not known:
                yield from self._register(endpoint, region)
            ask = Ask(endpoint, "infer", (model[0], [tensor], model[1]), options)
            try:
                answer = yield ask
            except InferenceServerException as error:
                status = str(error.status()).removeprefix("StatusCode.")
                if not known or status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    raise
                # A server that was started anew does not know the region any more.
                yield from self._register(endpoint, region)
                answer = yield ask
            answered = True
            return answer
        finally:
            self._give_back(endpoint, region, answered)

    def _take(self, endpoint: Endpoint, size: int) -> SystemRegion | CudaRegion:
        """Return a region of which nobody makes use."""
        with self._lock:
            now = time.monotonic()
            for entry in [entry for entry in self._late if entry[0] <= now]:
                self._late.remove(entry)
                self._free[entry[1]].append(entry[2])
            free = self._free[endpoint]
            for region in free:
                if region.size >= size:
                    free.remove(region)
                    return region
        return self._create(size)

    def _give_back(
        self, endpoint: Endpoint, region: SystemRegion | CudaRegion, answered: bool
    ) -> None:
        """Keep a region for the next request.

        A request that was given up may still run: were its region written to now, the server might
        compute and cache another image's embedding under its name. So it waits until the server has
        dropped it.
        """
        with self._lock:
            if self._closed:
                region.destroy()
            elif answered:
                self._free[endpoint].append(region)
            else:
                region.registered = False
                again = time.monotonic() + 2 * self._options.request_timeout
                self._late.append((again, endpoint, region))

    def _create(self, size: int) -> SystemRegion | CudaRegion:
        with self._lock:
            try:
                return self._kind(size)
            except Exception as error:  # the libraries have no common class of errors
                raise ServerError(
                    f"no {self._options.shared_memory} memory of {size} bytes to share ({error})"
                ) from error

    def _destroy(self, region: SystemRegion | CudaRegion) -> None:
        with self._lock:
            region.destroy()

    def _options_of_a_call(self) -> dict[str, Any]:
        return {
            "headers": dict(self._options.headers),
            "client_timeout": self._options.connect_timeout,
        }

    def _register(self, endpoint: Endpoint, region: SystemRegion | CudaRegion) -> Steps[None]:
        yield from self._unregister(endpoint, region)  # a name that is taken would be refused
        method, words = f"register_{region.registration}", region.registering()
        yield Ask(endpoint, method, words, self._options_of_a_call())
        region.registered = True

    def _unregister(self, endpoint: Endpoint, region: SystemRegion | CudaRegion) -> Steps[None]:
        method = f"unregister_{region.registration}"
        yield Ask(endpoint, method, (region.name,), self._options_of_a_call())

    def close(self) -> Steps[None]:
        """Unregister and unlink all regions; those in use are unlinked as their requests end."""
        with self._lock:
            self._closed = True
            regions = [(e, region) for e, free in self._free.items() for region in free]
            regions += [(e, region) for _, e, region in self._late]
            self._late.clear()
            for free in self._free.values():
                free.clear()
        for endpoint, region in regions:
            try:
                yield from self._unregister(endpoint, region)
            except (InferenceServerException, ServerError) as error:
                _log.info("%s keeps %s until it ends: %s", endpoint.name, region.name, error)
            finally:
                self._destroy(region)

    def after_fork(self) -> None:
        """Leave the regions to the parent, in whose child this is called."""
        abandon((self._free, self._late))
        self._lock = Lock()
        self._free = {endpoint: [] for endpoint in self._free}
        self._late = []


def is_loopback(url: str) -> bool:
    """Return whether an address without a scheme is one of this machine itself."""
    host = url.rpartition(":")[0].strip("[]")
    if url.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
