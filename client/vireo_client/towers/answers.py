"""Reads what a server answers, and believes nothing that it has not checked.

A wrong embedding is worse than none: in an index nobody would notice it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.utils import InferenceServerException

from ..errors import (
    ServerError,
    ServerOverloaded,
    ServerRejected,
    ServerTimeout,
    ServerUnavailable,
)

OUTPUT = "embedding"
_TOLERANCE = 1e-3
"""How far from 1 the length of an embedding may be; half precision is good for 5e-4."""
_REJECTED = ("INVALID_ARGUMENT", "UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED")


class WrongBundle(ServerError):  # noqa: N818
    """The server serves engines of another bundle."""


class MessageTooLarge(ServerRejected):
    """The request is larger than the server, or something on the way to it, lets through."""


def read_embeddings(response: Any, rows: int, dim: int, where: str) -> npt.NDArray[np.float32]:
    """Read the embeddings of an answer.

    Args:
        response: a `ModelInferResponse`.
        rows: how many embeddings were asked for.
        dim: the embedding size D of the bundle.
        where: the server and the model, for errors.

    Returns:
        FP32 `[rows, dim]`, finite and of unit length.

    Raises:
        ServerError: the answer is anything else.
    """
    place, output = next(
        ((n, output) for n, output in enumerate(response.outputs) if output.name == OUTPUT),
        (0, None),
    )
    raw = response.raw_output_contents
    if output is None or place >= len(raw) or (rows and not raw[place]):
        # A Python backend under numpy 2 answers with empty outputs and reports success.
        raise ServerError(
            f"{where} gave an empty answer; its Python environment must hold numpy 1.26"
        )
    shape = list(output.shape)
    if output.datatype != "FP32" or shape != [rows, dim]:
        raise ServerError(
            f"{where} answered with {output.datatype or 'an unnamed type'} {shape}, and FP32 "
            f"{[rows, dim]} was expected; is it the Triton of this bundle?"
        )
    if len(raw[place]) != rows * dim * 4:
        raise ServerError(
            f"{where} answered with {len(raw[place])} bytes, and FP32 {shape} has "
            f"{rows * dim * 4}; what stands between it and this client?"
        )
    vectors = np.frombuffer(raw[place], dtype="<f4").reshape(rows, dim).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    bad = ~(np.abs(lengths - 1) <= _TOLERANCE)  # NaN is bad too
    if bad.any():
        row = int(np.argmax(bad))
        raise ServerError(
            f"{where} answered with an embedding of length {lengths[row]:.4g} (row {row}), not 1; "
            "export the model repository again"
        )
    return vectors


def newest_version(versions: Iterable[str], where: str) -> str:
    """Return the highest of the versions that a model's metadata names.

    Raises:
        ServerUnavailable: it names none, as for a moment while a model is reloaded.
        ServerError: one is not a number.
    """
    present = list(versions)
    if not present:
        raise ServerUnavailable(f"{where} has no version that is ready; wait until it is loaded")
    if wrong := [version for version in present if not (version.isascii() and version.isdecimal())]:
        raise ServerError(
            f"{where} has a version {wrong[0]!r}, which is no number; is it a Triton?"
        )
    return max(present, key=int)


def server_error(error: InferenceServerException, message: str) -> ServerError:
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
    if status == "CANCELLED":  # by the server: as it ends, it cancels what has just arrived
        return ServerUnavailable(message)
    if status == "RESOURCE_EXHAUSTED":  # gRPC's limit of a message's size has this status too
        return (MessageTooLarge if "larger than max" in text else ServerOverloaded)(message)
    return (ServerRejected if status in _REJECTED else ServerError)(message)
