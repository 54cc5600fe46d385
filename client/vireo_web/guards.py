"""What every request passes first: whose host it names, who may ask, how much and how slowly.

Plain ASGI, so that a stream stays one. The checks come in this order: the `Host` header, which a
page of another site cannot choose (DNS rebinding); the `Origin` header of a page that writes; the
key; the size; and the time in which the request must have arrived.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import math
import socket
import time

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vireo_client.errors import VireoError

from .metrics import Metrics
from .problems import (
    KeyRequiredError,
    NotAllowedError,
    TooLargeError,
    TooSlowError,
    WrongHostError,
    problem_of,
)
from .settings import Limits, Settings

KEY_COOKIE = "vireo_key"
"""Carries a key where a browser sends no header: for images, downloads and event streams."""
_OPEN = ("/", "/healthz", "/readyz")
_READING = ("GET", "HEAD", "OPTIONS")
_METHODS = (*_READING, "POST", "DELETE")

POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; script-src 'self'; "
    "style-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


class Guard:
    """Refuses what may not pass, limits the time of an answer, and counts the answers."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._limits = settings.limits
        self._keys = [key.encode() for key in settings.keys]
        self._origins = frozenset(settings.origins)
        self._named = frozenset(name.lower() for name in settings.hosts)
        """Names that the operator gave; a proxy may call this server by another one."""
        self._hosts = self._named | {"localhost", socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, shared=bool(self._origins))
        started = time.perf_counter()
        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            await self._run(scope, headers, receive, answer)
        except VireoError as error:
            if answer.status:  # too late to say anything
                raise
            await problem_of(error)(scope, receive, answer.send)
        except Exception:
            answer.status = answer.status or 500  # which is answered outside of this guard
            raise
        finally:
            # Paths and methods are the callers' words, of which there are any number.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            seconds = time.perf_counter() - started
            self._metrics.count(method, route, answer.status or 499, seconds)

    async def _run(self, scope: Scope, headers: Headers, receive: Receive, answer: _Answer) -> None:
        """Answer a request, or raise when no answer has begun in time."""
        arriving = _Arriving(receive, self._limits)
        has_body = "content-length" in headers or "transfer-encoding" in headers
        allowed = self._limits.seconds + (self._limits.upload_seconds if has_body else 0.0)
        with anyio.CancelScope(deadline=anyio.current_time() + allowed) as scope_of_time:
            answer.time = scope_of_time
            await self._app(scope, arriving.receive, answer.send)
        if scope_of_time.cancelled_caught:
            raise TooSlowError(
                f"no answer within {allowed:g} seconds; the server is busy, try again"
            )

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = _host_name(headers.get("host", ""))
        if not _is_known(host, self._hosts):
            raise WrongHostError(
                f"{host or 'no host'}: not a name of this server; call it by its address or by "
                "localhost, or start it with --allow-host NAME"
            )
        method, path = scope["method"], scope["path"]
        if method not in _READING and headers.get("origin") not in self._origins:
            self._check_origin(headers)
        if self._keys and method != "OPTIONS" and not _is_open(path):
            self._check_key(headers)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.body_bytes:
            raise _too_large(self._limits.body_bytes)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what a page of another site sends with the browser of a user."""
        origin = headers.get("origin")
        host = (origin or "").partition("://")[2]
        if origin is None or host == headers.get("host") or _host_name(host) in self._named:
            return
        raise NotAllowedError(
            f"a page of {origin} may not do this; start the server with --cors {origin} if it shall"
        )

    def _check_key(self, headers: Headers) -> None:
        given = shown_key(headers).encode()
        # All are compared, and each in the same time, so that the time tells nothing of a key.
        known = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(known):
            what = "this key is not known" if given else "a key is needed"
            raise KeyRequiredError(f"{what}; send `Authorization: Bearer KEY`")


class _Answer:
    """An answer on its way: the headers that each has, and what its status is."""

    def __init__(self, send: Send, *, shared: bool) -> None:
        self._send = send
        self._policy = "cross-origin" if shared else "same-origin"
        self.status = 0
        self.time: anyio.CancelScope | None = None

    async def send(self, message: Message) -> None:
        """Send a part of it; once it has begun, it may take as long as it takes."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.time is not None:
                self.time.deadline = math.inf
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cross-Origin-Resource-Policy", self._policy)
            headers.setdefault("Cache-Control", "no-cache")
        await self._send(message)


class _Arriving:
    """A request's body, which has a largest size and must have arrived in time."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._most = limits.body_bytes
        self._until = time.monotonic() + limits.upload_seconds
        self._bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what comes then is that the caller has gone
            return await self._receive()
        try:
            left = max(0.0, self._until - time.monotonic())
            message = await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            raise TooSlowError("the request did not arrive in time; send it again") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            raise _too_large(self._most)
        self._complete = not message.get("more_body", False)
        return message


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"the request has too many bytes; at most {most:,} are taken")


def shown_key(headers: Headers) -> str:
    """Return the key that a request shows in a header, else in a cookie; empty without."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        key = cookie_parser(headers.get("cookie", "")).get(KEY_COOKIE, "")
    return key.strip()


def _is_open(path: str) -> bool:
    """Return whether a path needs no key: the page itself holds nothing of the index."""
    return path in _OPEN or path.startswith("/static/")


def _host_name(header: str) -> str:
    """Return the name in a `Host` header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].rstrip(".").lower()


def _is_known(host: str, names: frozenset[str]) -> bool:
    """Return whether a host is this server's: by its name, or as an address.

    A page of another site reaches this server only under a name of that site, never by an address.
    """
    if host in names:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
