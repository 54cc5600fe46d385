"""Triton's HTTP interface for operators: readiness, and loading and unloading models."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from vireo_client.errors import ServerError

KEY_HEADER = "vireo-admin-key"
"""HTTP header in which Triton expects the key of the restricted protocols."""
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"
"""The same in gRPC's metadata: Triton puts a prefix before the name."""


class Admin:
    """A connection to one Triton.

    Args:
        url: `http://host:port`.
        key: opens the restricted protocols.
        timeout: seconds that loading one model may take.
    """

    def __init__(self, url: str, key: str, *, timeout: float) -> None:
        self._url = url
        self._key = key
        self._timeout = timeout

    def ready(self, model: str) -> bool:
        """Return whether `model` answers; False also where nothing listens yet."""
        try:
            self._call("GET", f"models/{model}/ready", timeout=2)
        except ServerError:
            return False
        return True

    def version(self) -> str:
        """Return the server's version."""
        return str(json.loads(self._call("GET", "", timeout=30))["version"])

    def load(self, model: str) -> None:
        """Load a model from its folder, in place of the one of this name that is served.

        It returns when the new one is ready. Until then, and if it fails, the old one serves.

        Raises:
            ServerError: it cannot be loaded; the message is Triton's.
        """
        self._call("POST", f"repository/models/{model}/load", timeout=self._timeout)

    def unload(self, model: str) -> None:
        """Unload a model; requests that have been accepted are still answered.

        Raises:
            ServerError: Triton refuses.
        """
        self._call("POST", f"repository/models/{model}/unload", timeout=self._timeout)

    def index(self) -> list[dict[str, Any]]:
        """Return the models and versions that Triton knows, with their states."""
        answer: list[dict[str, Any]] = json.loads(
            self._call("POST", "repository/index", timeout=30)
        )
        return answer

    def _call(self, method: str, path: str, *, timeout: float) -> bytes:
        request = urllib.request.Request(
            f"{self._url}/v2/{path}".rstrip("/"),
            data=b"" if method == "POST" else None,
            headers={KEY_HEADER: self._key},
            method=method,
        )
        try:
            # No proxy stands between this process and its own server.
            with _direct.open(request, timeout=timeout) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise ServerError(_reason(error)) from None
        except (OSError, HTTPException) as error:
            raise ServerError(f"Triton at {self._url} does not answer: {error}") from None


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _reason(error: urllib.error.HTTPError) -> str:
    body = error.read().decode(errors="replace")
    try:
        return str(json.loads(body)["error"]).strip()
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code} {body.strip()}"
