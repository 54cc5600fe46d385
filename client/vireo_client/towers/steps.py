"""The steps of an exchange with Triton, which a synchronous and an asyncio client take alike."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

from .pool import Endpoint

T = TypeVar("T")


class Ask(NamedTuple):
    """A step: call a method of the server's client, which is named as in `tritonclient`."""

    endpoint: Endpoint
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


class Wait(NamedTuple):
    """A step: wait."""

    seconds: float


Steps = Generator[Ask | Wait, Any, T]
