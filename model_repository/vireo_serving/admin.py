"""Triton's HTTP interface for operators: readiness, loading and unloading, and probes of models."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any, NamedTuple

from vireo_client.errors import ServerError, ServerOverloaded, ServerRejected

KEY_HEADER = "vireo-admin-key"
"""HTTP header in which Triton expects the key of the restricted protocols."""
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"
"""The same in gRPC's metadata: Triton puts a prefix before the name."""


class RequestInput(NamedTuple):
    """One input of an inference request, in Triton's binary form."""

    datatype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def bytes_of(cls, value: bytes) -> RequestInput:
        """Return one string or file as a BYTES input `[1, 1]`."""
        return cls("BYTES", (1, 1), struct.pack("<I", len(value)) + value)


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

    def check_ready(self, *, timeout: float) -> None:
        """Check that the server and all of its models are ready.

        Raises:
            ServerError: they are not, or nothing answers within `timeout` seconds.
        """
        self._call("GET", "health/ready", timeout=timeout)

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

    def infer(
        self, model: str, inputs: Mapping[str, RequestInput], output: str, *, timeout: float
    ) -> None:
        """Send one request to a model. Its output is dropped: that it answers is what counts.

        A refusal of the request by the model itself is an answer too.

        Raises:
            ServerOverloaded: its queue is full, or the request waited there for too long.
            ServerError: it fails, or does not answer within `timeout` seconds.
        """
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": name,
                        "shape": tensor.shape,
                        "datatype": tensor.datatype,
                        "parameters": {"binary_data_size": len(tensor.data)},
                    }
                    for name, tensor in inputs.items()
                ],
                "outputs": [{"name": output, "parameters": {"binary_data": True}}],
            }
        ).encode()
        body = head + b"".join(tensor.data for tensor in inputs.values())
        try:
            self._call(
                "POST", f"models/{model}/infer", timeout=timeout, body=body,
                headers={"Inference-Header-Content-Length": str(len(head))},
            )  # fmt: skip
        except ServerRejected as error:
            if "unknown model" in str(error):
                raise ServerError(str(error)) from None

    def finished_requests(self, model: str) -> int:
        """Return how many requests a model has answered, with success or not.

        Raises:
            ServerError: Triton does not know the model, or does not answer.
        """
        answer = json.loads(self._call("GET", f"models/{model}/stats", timeout=10))
        counts = [version["inference_stats"] for version in answer["model_stats"]]
        return sum(int(c["success"]["count"]) + int(c["fail"]["count"]) for c in counts)

    def _call(
        self,
        method: str,
        path: str,
        *,
        timeout: float,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
    ) -> bytes:
        request = urllib.request.Request(
            f"{self._url}/v2/{path}".rstrip("/"),
            data=body if method == "POST" else None,
            headers={KEY_HEADER: self._key, **headers},
            method=method,
        )
        try:
            # No proxy stands between this process and its own server.
            with _direct.open(request, timeout=timeout) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            reason = _reason(error)
            if error.code == 503 and any(words in reason for words in _OVERLOAD):
                raise ServerOverloaded(reason) from None
            kind = ServerRejected if 400 <= error.code < 500 else ServerError
            raise kind(reason) from None
        except (OSError, HTTPException) as error:
            raise ServerError(f"Triton at {self._url} does not answer: {error}") from None


_OVERLOAD = ("maximum queue size", "timeout expired")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _reason(error: urllib.error.HTTPError) -> str:
    body = error.read().decode(errors="replace")
    try:
        return str(json.loads(body)["error"]).strip()
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code} {body.strip()}"
