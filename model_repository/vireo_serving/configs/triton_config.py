"""Model configurations as files, and the options that every target has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.errors import ExportError
from vireo_client.repository import CONFIG_FILE as CONFIG_FILE


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of the requests that wait for a model; a request beyond a limit is refused at once.

    Raises:
        ExportError: a value is out of range.
    """

    size: int = 1024
    """Requests that may wait for a model; more are refused. 0 for no limit."""
    timeout_ms: int = 10_000
    """A query that has waited this long is refused. A request may ask for less. 0 for no limit."""
    bulk_timeout_ms: int = 60_000
    """The same for requests of bulk priority, which any query overtakes."""

    def __post_init__(self) -> None:
        for name in ("size", "timeout_ms", "bulk_timeout_ms"):
            if getattr(self, name) < 0:
                raise ExportError(f"{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """The options that every target has. Each target's own are its fields, see `targets`.

    Raises:
        ExportError: a value is out of range.
    """

    max_batch_size: int = 64
    max_queue_delay_us: int = 0
    """Microseconds that the dynamic batcher may hold a request to fill a batch. At 0 no request
    waits for others: batches form from the requests that arrive while the instance is busy."""
    threads: int = 0
    """Threads of one inference on a CPU, and of decoding images. 0: on target `cpu` as many as the
    server's machine has cores, shared out among the instances; otherwise the backend's default."""
    instances: int = 1
    """Copies of each tower, per device. On a CPU one copy on all cores is best, except where
    batches are small and cores many."""
    queue_limits: QueueLimits | None = None
    """None by default: under any limit Triton prepares no batch while a model is busy, and looks
    for a free one only when the next request comes, or after half a second."""
    response_cache: bool = True
    """Whether repeated texts are answered from the server's cache, if the server has one."""

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "instances"):
            if getattr(self, name) < 1:
                raise ExportError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("max_queue_delay_us", "threads"):
            if getattr(self, name) < 0:
                raise ExportError(f"{name} is {getattr(self, name)}; it must be 0 or more")


def write_config(config: pb.ModelConfig, folder: Path) -> None:
    """Write `config.pbtxt` and read it back, so that Triton parses the same message.

    Raises:
        ExportError: the written text does not give the same message.
    """
    path = folder / CONFIG_FILE
    path.write_text(text_format.MessageToString(config), encoding="utf-8")
    if read_config(path) != config:
        raise ExportError(f"{path}: does not read back as it was written")


def read_config(path: Path) -> pb.ModelConfig:
    """Parse a `config.pbtxt` against Triton's schema.

    Raises:
        ExportError: it does not parse.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    except (text_format.ParseError, OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path}: not a Triton model configuration ({error})") from error
