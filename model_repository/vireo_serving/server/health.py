"""Health of a running server's engines: a small request to each, every few seconds.

Triton's own readiness does not see a Python backend's process that died, or that no longer runs:
its model stays ready while all of its requests fail or wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.errors import ServerError, ServerOverloaded

from ..admin import Admin, RequestInput
from ..reload.publication import PYTHON_BACKEND
from ..reload.slots import Layout

EVERY_SECONDS = 2.0
_RAW = {"text": b"a", "image": b""}
"""Values of the inputs that a Python model preprocesses. Every model answers them: it tokenizes
the text, and refuses the image, which has no bytes. No tower runs for either."""
_PREPROCESSED = ("input_ids", "pixels")
_FAILURES = 2
"""Failed requests in a row after which an engine counts as dead: one may be chance."""


class Probe(NamedTuple):
    """The request by which an engine shows that it lives."""

    inputs: dict[str, RequestInput]
    output: str
    copies: int
    """Requests to send at once: as many as the engine has instances, each its own process."""


def probe_of(config: pb.ModelConfig, folder: Path) -> Probe | None:
    """Return the cheapest request that a model answers; None where none is known.

    Args:
        config: the model's configuration.
        folder: the model's folder, which holds the data of its warm-up.
    """
    copies = max(1, sum(group.count for group in config.instance_group))
    outputs = [output.name for output in config.output]
    raw = next((tensor.name for tensor in config.input if tensor.name in _RAW), None)
    if config.backend == PYTHON_BACKEND and raw is not None:
        output = next((name for name in outputs if name in _PREPROCESSED), outputs[0])
        return Probe({raw: RequestInput.bytes_of(_RAW[raw])}, output, copies)
    if not config.model_warmup:
        return None
    # An engine of ONNX Runtime or TensorRT runs once, as in its first warm-up.
    warm_up = config.model_warmup[0]
    inputs = {}
    for name, tensor in warm_up.inputs.items():
        data = (folder / "warmup" / tensor.input_data_file).read_bytes()
        shape = [max(1, warm_up.batch_size), *tensor.dims] if config.max_batch_size else tensor.dims
        datatype = pb.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        datatype = "BYTES" if datatype == "STRING" else datatype
        inputs[name] = RequestInput(datatype, tuple(shape), data * max(1, warm_up.batch_size))
    return Probe(inputs, outputs[0], 1)


@dataclass
class _Engine:
    """One engine under watch."""

    probe: Probe
    answers: list[Future[None]] = field(default_factory=list)
    due: float = 0.0
    failures: int = 0
    finished: int = 0
    """Requests that the engine had finished when the probe was sent."""


class Health:
    """Watches the engines of one layout.

    Args:
        admin: the running Triton.
        layout: the publication that it serves.
        limit: seconds without any answer, to the probe or to another request, after which an
            engine counts as dead.
        every: seconds between two probes of an engine; by default `EVERY_SECONDS`.
    """

    def __init__(
        self, admin: Admin, layout: Layout, *, limit: float, every: float | None = None
    ) -> None:
        self.layout = layout
        self._admin = admin
        self._limit = limit
        self._every = EVERY_SECONDS if every is None else every
        self._engines = dict(_engines(layout))
        copies = sum(engine.probe.copies for engine in self._engines.values())
        self._pool = ThreadPoolExecutor(max(1, copies), thread_name_prefix="probe")

    def look(self) -> str | None:
        """Send the probes that are due; return the name of a dead engine and the reason.

        It does not wait for answers: what has come since the last look counts.
        """
        now = time.monotonic()
        for name, engine in self._engines.items():
            if engine.answers and all(answer.done() for answer in engine.answers):
                reason = self._reason(name, engine)
                engine.answers = []
                if reason is not None:
                    return f"{name}: {reason}"
            if not engine.answers and now >= engine.due:
                engine.due = now + self._every
                engine.finished = self._finished(name)
                engine.answers = [
                    self._pool.submit(self._send, name, engine.probe)
                    for _ in range(engine.probe.copies)
                ]
        return None

    def close(self) -> None:
        """Stop watching. Probes that are under way end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _send(self, name: str, probe: Probe) -> None:
        self._admin.infer(name, probe.inputs, probe.output, timeout=self._limit)

    def _reason(self, name: str, engine: _Engine) -> str | None:
        """Return why an engine whose answers have come is dead, or None if it lives."""
        errors = [error for answer in engine.answers if (error := answer.exception())]
        for error in errors:
            if not isinstance(error, ServerError):
                raise error
        errors = [error for error in errors if not isinstance(error, ServerOverloaded)]
        # A long batch may keep an engine from the probe; then it has finished others meanwhile.
        if not errors or ("timed out" in str(errors[0]) and self._finished(name) > engine.finished):
            engine.failures = 0
            return None
        engine.failures += 1
        final = "is not healthy" in str(errors[0]) or "timed out" in str(errors[0])
        return str(errors[0]) if final or engine.failures >= _FAILURES else None

    def _finished(self, name: str) -> int:
        try:
            return self._admin.finished_requests(name)
        except ServerError:
            return 0  # the probe itself tells more


def _engines(layout: Layout) -> Iterator[tuple[str, _Engine]]:
    configs: Mapping[str, pb.ModelConfig] = layout.publication.configs
    for model, slot in layout.slots.items():
        probe = probe_of(configs[model], layout.root / slot)
        if probe is not None:
            yield slot, _Engine(probe)
