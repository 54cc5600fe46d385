"""A gRPC server that answers as Triton does, or as no Triton should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from threading import Lock
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from vireo_client.repository import BUNDLE_PARAMETER

from support.bundles import DIM


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves both towers of one bundle.

    The embedding of a row is a unit vector along the axis that its first number names, so that a
    test sees whose answer is whose.
    """

    def __init__(self, bundle_id: str) -> None:
        self.bundle_id = bundle_id
        self.ready = True
        self.versions = ["1"]
        self.max_batch_size = 8
        self.failure: tuple[grpc.StatusCode, str] | None = None
        """The status and text of every inference."""
        self.failures: list[tuple[grpc.StatusCode, str]] = []
        """Those of the next inferences."""
        self.hold: futures.Future[None] | None = None
        """What every inference waits for."""
        self.hold_checks: futures.Future[None] | None = None
        """What every question about a model's configuration waits for."""
        self.checks: list[str] = []
        """The models whose configuration was asked for."""
        self.change: Callable[[Any], None] | None = None
        """Changes an answer, a `ModelInferResponse`, before it is sent."""
        self.requests: list[Any] = []
        """The inferences that arrived."""
        self.metadata: list[dict[str, str]] = []
        """Their headers."""
        self.calls: list[grpc.ServicerContext] = []
        """Their calls, which know whether they were cancelled."""
        self._lock = Lock()

    def ServerMetadata(self, request, context):  # noqa: N802
        return service_pb2.ServerMetadataResponse(version="2.0")

    def ModelReady(self, request, context):  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelMetadata(self, request, context):  # noqa: N802
        return service_pb2.ModelMetadataResponse(name=request.name, versions=self.versions)

    def ModelConfig(self, request, context):  # noqa: N802
        self.checks.append(request.name)
        if self.hold_checks is not None:
            self.hold_checks.result()
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=self.max_batch_size)
        if self.bundle_id:
            config.parameters[BUNDLE_PARAMETER].string_value = self.bundle_id
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request, context):  # noqa: N802
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            self.calls.append(context)
            failure = self.failures.pop(0) if self.failures else self.failure
        if self.hold is not None:
            self.hold.result()
        if failure is not None:
            context.abort(*failure)
        tensor = request.inputs[0]
        dtype = np.int32 if tensor.datatype == "INT32" else np.uint8
        values = np.frombuffer(request.raw_input_contents[0], dtype).reshape(tensor.shape)
        first = values.reshape(len(values), -1)[:, 0].astype(int) % DIM
        vectors = np.eye(DIM, dtype=np.float32)[first]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="embedding", datatype="FP32", shape=vectors.shape)
        answer.raw_output_contents.append(vectors.tobytes())
        if self.change:
            self.change(answer)
        return answer


@contextmanager
def standing_in(service: Service, address: str = "127.0.0.1:0", **options: int) -> Iterator[str]:
    """Serve `service`, and yield its address.

    Args:
        service: what answers.
        address: where; by default at a free port.
        options: settings of gRPC, `_` for `.`: `max_receive_message_length`.
    """
    settings = [(f"grpc.{name}", value) for name, value in options.items()]
    server = grpc.server(futures.ThreadPoolExecutor(16), options=settings)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    port = server.add_insecure_port(address)
    assert port, address
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
