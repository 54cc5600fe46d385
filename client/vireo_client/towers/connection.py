"""How to reach Triton: the options of a connection, and the addresses of one server or several.

This module needs no gRPC, so that a program may make its options without loading it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..errors import ServerError
from .tls import SCHEME, ClientTls, split_url

MESSAGE_BYTES = 2**31 - 1
"""The size of a message that gRPC and Triton allow at most."""

_SECONDS = ("connect_timeout", "request_timeout", "max_reconnect_backoff", "keepalive_time",
            "keepalive_timeout", "probe_interval")  # fmt: skip
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How a client connects to Triton, how long it waits, and what it tries again.

    Raises:
        ServerError: an option has a value that cannot be; the message names it.
    """

    connect_timeout: float = 5.0
    """Seconds to wait for a connection, and for each answer of the checks that come first."""
    request_timeout: float = 60.0
    """Seconds from a call to its answer, whatever is tried again in between. What is left of them
    goes to Triton with each request: a server with queue limits drops a request that waits longer.
    """
    retries: int = 2
    """How often a request that failed is sent again: where no server answered (`ServerUnavailable`)
    and where the queue was full (`ServerOverloaded`). With several servers, each healthy one is
    tried at least once, unless this is 0."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent with each request, such as `{"authorization": "Bearer ..."}`. Names in lower case. Their
    values appear in no log and in no error."""
    max_message_bytes: int = MESSAGE_BYTES
    """The size of a request above which a batch is split, as where a proxy allows less than Triton.
    """
    max_reconnect_backoff: float = 1.0
    """Seconds between two attempts to reach a server that is away, at most."""
    keepalive_time: float = 10.0
    """Seconds without an answer after which a busy connection is asked whether it is alive."""
    keepalive_timeout: float = 5.0
    """Seconds to wait for that answer; then the connection counts as lost."""
    probe_interval: float = 1.0
    """Seconds between two looks at a server that was put aside, where there are several."""
    join_window: float = 0.005
    """Seconds that a text waits for others at most, while a request is under way. Only the
    asynchronous client joins texts."""
    shared_memory: Literal["system", "cuda"] | None = None
    """Sends pixels through memory that this process shares with a Triton on the same machine. The
    server must allow it: with `vireo serve`, `headers` must hold the admin key."""
    shared_memory_fallback: bool = False
    """Whether pixels go through gRPC, with a warning, where memory cannot be shared. Otherwise that
    is a `ServerError`."""

    def __post_init__(self) -> None:
        for name in _SECONDS:
            _check(name, getattr(self, name), (int, float), 0.001, 1e6)
        _check("join_window", self.join_window, (int, float), 0, 60)
        _check("retries", self.retries, int, 0, 1000)
        _check("max_message_bytes", self.max_message_bytes, int, 2**16, MESSAGE_BYTES)
        if self.shared_memory not in (None, "system", "cuda"):
            raise ServerError(f"shared_memory is {self.shared_memory!r}; give system, cuda or None")
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.endswith("-bin"):
                raise ServerError(
                    f"header {name!r}: its name may hold lower-case letters, digits and _ . - "
                    "and may not end in -bin"
                )
            if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
                raise ServerError(
                    f"header {name!r}: its value must be printable ASCII; is there a line break at "
                    "its end?"
                )

    def with_given(self, **given: float | None) -> ConnectionOptions:
        """Return these options with those replaced that are given, that is not None."""
        changes: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        return replace(self, **changes)

    def without_secrets(self, text: str) -> str:
        """Return an error's text without the headers' values, which a server may quote."""
        for value in self.headers.values():
            text = text.replace(value, "***")
        return text

    def channel_arguments(self) -> list[tuple[str, int]]:
        """Return the settings of a gRPC channel.

        They are described in gRPC's `channel_arg_names.h` and `doc/connection-backoff.md`.
        """
        backoff = _ms(self.max_reconnect_backoff)
        return [
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            # Otherwise gRPC gives a new channel the connection of an older one to the same address,
            # and a forked child that of its parent.
            ("grpc.use_local_subchannel_pool", 1),
            # By default the pauses grow to two minutes: a server that was away for 90 s is found
            # 22 s after it is back.
            ("grpc.initial_reconnect_backoff_ms", min(100, backoff)),
            ("grpc.max_reconnect_backoff_ms", backoff),
            # In spite of its name, how long one attempt to connect may take.
            ("grpc.min_reconnect_backoff_ms", _ms(self.connect_timeout)),
            # A process that is stopped, or a machine that is gone, closes no connection. A server
            # takes pings more often than every five minutes as an attack; it bears two, and two
            # without data between them is what gRPC sends at once.
            ("grpc.keepalive_time_ms", _ms(self.keepalive_time)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout)),
            ("grpc.http2.max_pings_without_data", 2),
            # The pings by which gRPC measures the bandwidth stand in for those above. Unanswered,
            # they count as lost after a minute by default.
            ("grpc.http2.ping_timeout_ms", _ms(self.keepalive_timeout)),
        ]


def read_addresses(
    url: str | Sequence[str], tls: ClientTls | None
) -> list[tuple[str, ClientTls | None]]:
    """Read one address or several: `host:port`, `grpcs://host:port`, joined by commas.

    Where one of them has `grpcs://`, those without a scheme speak TLS too: a header with a password
    must not go out in the clear because a scheme stands once.

    Raises:
        ServerError: there is none, one is empty, or one occurs twice.
    """
    words = url.split(",") if isinstance(url, str) else [str(word) for word in url]
    words = [word.strip() for word in words]
    if not words or not all(words):
        raise ServerError(f"Triton at {url!r}: no address; give HOST:PORT, several with commas")
    if tls is None and any(word.startswith(SCHEME) for word in words):
        words = [word if "://" in word else f"{SCHEME}{word}" for word in words]
    addresses = [split_url(word, tls) for word in words]
    hosts = [host for host, _ in addresses]
    if twice := next((host for host in hosts if hosts.count(host) > 1), None):
        raise ServerError(f"Triton at {twice}: the address is given twice; give it once")
    return addresses


def _check(
    name: str, value: float, kind: type | tuple[type, ...], lowest: float, highest: float
) -> None:
    right = isinstance(value, kind) and not isinstance(value, bool)
    if not right or not lowest <= value <= highest:  # NaN is not between them
        number = "a whole number" if kind is int else "a number"
        raise ServerError(f"{name} is {value!r}; give {number} from {lowest:g} to {highest:.10g}")


def _ms(seconds: float) -> int:
    return min(max(1, round(seconds * 1000)), 2**31 - 1)
