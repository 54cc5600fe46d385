"""Model configurations as files, and what an operator may set in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.errors import ExportError
from vireo_client.repository import CONFIG_FILE as CONFIG_FILE

Target = Literal["cpu", "onnxruntime", "tensorrt"]
TARGETS: tuple[Target, ...] = get_args(Target)
"""What runs the towers inside Triton: the Python backend holding ONNX Runtime (any machine), the
onnxruntime backend, or the tensorrt backend. The latter two come with NVIDIA's server image."""
Device = Literal["cpu", "gpu"]
DEVICES: tuple[Device, ...] = get_args(Device)


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What waits how long for a model, and in what order; each limit is refused at once.

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
    """What an operator may set.

    Raises:
        ExportError: a value is out of range.
    """

    max_batch_size: int = 64
    max_queue_delay_us: int = 0
    """How long the dynamic batcher may hold a request to fill a batch, in microseconds. At 0 no
    request waits for others: batches form from what queues up while the instance is busy."""
    threads: int = 0
    """Threads of one inference on a CPU, and of decoding pictures. 0: on target `cpu` as many as
    the server's machine has cores, shared out among the instances; otherwise the backend's own."""
    instances: int = 1
    """Copies of each tower, per device. On a CPU one that takes all cores is best until batches
    are small and cores many."""
    device: Device = "cpu"
    """Where the towers run. Target `tensorrt` is always on GPUs, target `cpu` never."""
    gpus: tuple[int, ...] = ()
    """The GPUs that get instances; empty for all."""
    cuda_graphs: bool = True
    """Whether target `tensorrt` replays captured CUDA graphs, one a bucket and batch size."""
    ort_tensorrt_cache: str | None = None
    """Given, target `onnxruntime` on GPUs runs the towers by TensorRT, and keeps what it builds in
    this folder: an absolute path, as the server sees it."""
    queue_limits: QueueLimits | None = None
    """None by default: under any of them Triton prepares no batch while a model is busy, and looks
    for a free one only when the next request comes, or after half a second."""
    response_cache: bool = True
    """Whether texts asked for again are answered from the server's cache, if it was given one."""

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "instances"):
            if getattr(self, name) < 1:
                raise ExportError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("max_queue_delay_us", "threads"):
            if getattr(self, name) < 0:
                raise ExportError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if any(gpu < 0 for gpu in self.gpus):
            raise ExportError(f"gpus are {self.gpus}; they are numbered from 0")


def write_config(config: pb.ModelConfig, folder: Path) -> None:
    """Writes `config.pbtxt` and reads it back, so that what Triton parses is what was meant.

    Raises:
        ExportError: the written text does not give the same message.
    """
    path = folder / CONFIG_FILE
    path.write_text(text_format.MessageToString(config), encoding="utf-8")
    if read_config(path) != config:
        raise ExportError(f"{path}: does not read back as it was written")


def read_config(path: Path) -> pb.ModelConfig:
    """Parses a `config.pbtxt` against Triton's schema.

    Raises:
        ExportError: it does not parse.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    except text_format.ParseError as error:
        raise ExportError(f"{path}: not a Triton model configuration ({error})") from error
