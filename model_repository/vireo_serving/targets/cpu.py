"""Target `cpu`: ONNX Runtime inside Triton's Python backend. It runs on any machine.

The towers preprocess, too: a text or an image file crosses from process to process once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL

from ..configs import ensembles
from ..configs.parts import run_on_cpu, set_parameter
from ..configs.towers import accept_images, accept_texts, image_encoder, text_encoder
from ..configs.triton_config import ServingOptions
from .target import Samples, Target, WarmUp, warm_up_batches


@dataclass(frozen=True)
class Cpu(Target):
    """ONNX Runtime inside Triton's Python backend. It has no options of its own."""

    name = "cpu"
    summary = "ONNX Runtime in Triton's Python backend, on the CPUs of any machine"
    precisions = ("fp32", "fp16", "int8", "int4")
    engine_suffixes = (".onnx",)
    custom_operators = True
    # The client's engine keeps ONNX Runtime from making them by itself, and says why.
    unwanted_fusions = frozenset({"skip_layer_normalization", "bias_gelu"})
    text_preprocessor = TEXT_MODEL
    image_preprocessor = IMAGE_MODEL

    def _configs(
        self, bundle: BundleConfig, options: ServingOptions, version: int
    ) -> list[pb.ModelConfig]:
        text, image = text_encoder(bundle, options), image_encoder(bundle, options)
        accept_texts(text, bundle, options)
        accept_images(image, bundle)
        for tower in (text, image):
            tower.backend = "python"
            # `models/onnx_tower.py` sets its threads when it starts.
            set_parameter(tower, "threads", options.threads)
            run_on_cpu(tower, options.instances)
        return [text, image, *ensembles.around_whole_towers(bundle, options, version)]

    def warm_up(self, samples: Samples, options: ServingOptions) -> Iterator[WarmUp]:
        """Yield each bucket as a text and, in a large batch, as ids; and an image file."""
        batches = warm_up_batches(options, on_cpu=True)
        for bucket, (text, ids) in samples.texts.items():
            name = f"bucket-{bucket}"
            yield WarmUp(TEXT_MODEL, name, batches[:1], {"text": text.encode()})
            # Other ids than the text's: its embedding is in the tower's cache now, and the tower
            # would not run.
            other = _reordered(ids, samples.pad_id)
            yield WarmUp(TEXT_MODEL, name, batches[1:], {"input_ids": other})
        yield WarmUp(IMAGE_MODEL, "picture", batches, {"image": samples.image})


def _reordered(ids: npt.NDArray[np.int32], pad_id: int) -> npt.NDArray[np.int32]:
    """Return the ids of the same text with its words backwards."""
    words = np.flatnonzero(ids != pad_id)[1:-1]
    other = ids.copy()
    other[words] = ids[words[::-1]]
    return other
