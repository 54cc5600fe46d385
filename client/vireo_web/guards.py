"""What every request passes first: whose host it names, who may ask, how much and how slowly.

Plain ASGI, so that a stream stays one. The checks come in this order: the `Host` header, which a
page of another site cannot choose (DNS rebinding); the `Origin` header of a page that writes; the
key; the size; and the time in which the request must have arrived.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import socket
import time
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vireo_client.errors import VireoError

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
_OPEN = ("/", "/static/", "/healthz", "/readyz", "/favicon.ico")
"""What needs no key: the page itself holds nothing of the index."""
_READING = ("GET", "HEAD", "OPTIONS")

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
    """Refuses what may not pass, and adds the headers of every answer."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._limits = settings.limits
        self._keys = [key.encode() for key in settings.keys]
        self._origins = frozenset(settings.origins)
        self._hosts = known_hosts(settings.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        foreign = headers.get("origin") in self._origins

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    added.setdefault(name, value)
                policy = "cross-origin" if self._origins else "same-origin"
                added.setdefault("Cross-Origin-Resource-Policy", policy)
            await send(message)

        try:
            self._check(scope, headers, foreign)
        except VireoError as error:
            await problem_of(error)(scope, receive, send_guarded)
            return
        await self._app(scope, _Arriving(receive, self._limits).receive, send_guarded)

    def _check(self, scope: Scope, headers: Headers, foreign: bool) -> None:
        host = _host_name(headers.get("host", ""))
        if not is_known(host, self._hosts):
            raise WrongHostError(
                f"{host or 'no host'}: not a name of this server; call it by its address or by "
                "localhost, or start it with --allow-host NAME"
            )
        method, path = scope["method"], scope["path"]
        if method not in _READING and not foreign:
            self._check_origin(headers)
        if self._keys and method != "OPTIONS" and not path.startswith(_OPEN[1:]) and path != "/":
            self._check_key(headers)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.body_bytes:
            raise _too_large(self._limits.body_bytes)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what a page of another site sends with the browser of a user."""
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise NotAllowedError(
                f"a page of {origin} may not do this; start the server with --cors {origin} if it "
                "shall"
            )

    def _check_key(self, headers: Headers) -> None:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            shown = cookie_parser(headers.get("cookie", "")).get(KEY_COOKIE, "")
        given = shown.strip().encode()
        # All are compared, and each in the same time, so that the time tells nothing of a key.
        known = [hmac.compare_digest(given, key) for key in self._keys]
        if not any(known):
            what = "this key is not known" if given else "a key is needed"
            raise KeyRequiredError(f"{what}; send `Authorization: Bearer KEY`")


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


def _host_name(header: str) -> str:
    """Return the name in a `Host` header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].rstrip(".").lower()


def known_hosts(names: Iterable[str]) -> frozenset[str]:
    """Return the names under which this server may be called, besides addresses."""
    own = {"localhost", socket.gethostname().lower()}
    return frozenset(own | {name.lower() for name in names})


def is_known(host: str, names: frozenset[str]) -> bool:
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
