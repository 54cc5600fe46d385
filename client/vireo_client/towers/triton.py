"""The towers behind a Triton Inference Server, over gRPC."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ..bundle import Bundle
from ..errors import ServerError
from ..repository import (
    BULK_PRIORITY,
    BUNDLE_PARAMETER,
    IMAGE_MODEL,
    QUERY_PRIORITY,
    TEXT_MODEL,
)


class TritonTowers:
    """Runs the towers on a Triton server.

    On connecting it checks that the server is ready and serves the engines of this very bundle:
    vectors of two models in one index would be wrong without an error.

    Args:
        bundle: what the client preprocesses for.
        url: `host:port` of Triton's gRPC endpoint.
        connect_timeout: seconds to wait for the first answer.
        request_timeout: seconds to wait for one inference; the server drops a request that has
            queued for so long.
        bulk: whether any query overtakes these requests, as when pictures are indexed.

    Raises:
        ServerError: no answer, a model that is not ready, or engines of another bundle.
    """

    name = "triton"

    def __init__(
        self,
        bundle: Bundle,
        url: str = "127.0.0.1:8001",
        *,
        connect_timeout: float = 5.0,
        request_timeout: float = 60.0,
        bulk: bool = False,
    ) -> None:
        self.url = url
        self._priority = BULK_PRIORITY if bulk else QUERY_PRIORITY
        self._timeout = request_timeout
        self._client = grpc.InferenceServerClient(url)
        try:
            self.server_version = self._check(bundle, connect_timeout)
        except ServerError:
            self._client.close()
            raise
        except InferenceServerException as error:
            self._client.close()
            raise ServerError(
                f"Triton at {url}: {error.message()}; start one with `vireo serve REPOSITORY`"
            ) from error

    def _check(self, bundle: Bundle, timeout: float) -> str:
        limits = []
        for model in (TEXT_MODEL, IMAGE_MODEL):
            if not self._client.is_model_ready(model, client_timeout=timeout):
                raise ServerError(f"Triton at {self.url}: model {model} is not ready")
            config = self._client.get_model_config(model, client_timeout=timeout).config
            served = config.parameters[BUNDLE_PARAMETER].string_value
            if served != bundle.bundle_id:
                raise ServerError(
                    f"Triton at {self.url}: {model} is of bundle {served or 'unknown'}, "
                    f"but {bundle.folder} is bundle {bundle.bundle_id}; serve the same repository"
                )
            limits.append(config.max_batch_size)
        self.max_batch_size = min(limits)
        metadata = self._client.get_server_metadata(client_timeout=timeout)
        return str(metadata.version)

    def encode_text(self, input_ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        """INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""
        return self._infer(TEXT_MODEL, "input_ids", "INT32", input_ids)

    def encode_image(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""
        return self._infer(IMAGE_MODEL, "pixels", "UINT8", pixels)

    def _infer(
        self, model: str, name: str, dtype: str, values: npt.NDArray[np.generic]
    ) -> npt.NDArray[np.float32]:
        tensor = grpc.InferInput(name, list(values.shape), dtype)
        tensor.set_data_from_numpy(values)
        output = grpc.InferRequestedOutput("embedding")
        try:
            answer = self._client.infer(
                model,
                [tensor],
                outputs=[output],
                priority=self._priority,
                timeout=int(self._timeout * 1e6),
                client_timeout=self._timeout,
            )
        except InferenceServerException as error:
            raise ServerError(f"Triton at {self.url}: {model}: {error.message()}") from error
        vectors = answer.as_numpy("embedding")
        if vectors is None or len(vectors) != len(values):
            # A Python backend under numpy 2 answers with empty outputs and reports success.
            raise ServerError(
                f"Triton at {self.url}: {model} gave an empty answer; its Python environment must "
                "hold numpy 1.26"
            )
        return np.asarray(vectors, dtype=np.float32)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()
