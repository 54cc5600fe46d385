"""The common part of targets whose towers take ids and pixels alone: Triton's native backends.

Python models of their own preprocess texts and images, and ensembles join them to the towers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.repository import (
    IMAGE_MODEL,
    MASK_ROWS,
    PREPROCESS_IMAGE,
    PREPROCESS_TEXT,
    TEXT_MODEL,
)

from ..configs import ensembles, preprocessing
from ..configs.towers import image_encoder, text_encoder
from ..configs.triton_config import ServingOptions
from .target import Samples, Target, WarmUp, warm_up_batches


class PreprocessedTarget(Target):
    """A target whose towers get their inputs from Python models."""

    text_preprocessor = PREPROCESS_TEXT
    image_preprocessor = PREPROCESS_IMAGE

    @abstractmethod
    def _run_tower(
        self, tower: pb.ModelConfig, bundle: BundleConfig, options: ServingOptions, version: int
    ) -> None:
        """Complete a tower's configuration with its backend and its instances."""

    @abstractmethod
    def _on_cpu(self) -> bool:
        """Return whether the towers run on CPUs."""

    def _configs(
        self, bundle: BundleConfig, options: ServingOptions, version: int
    ) -> list[pb.ModelConfig]:
        text, image = text_encoder(bundle, options), image_encoder(bundle, options)
        text.response_cache.enable = options.response_cache
        for tower in (text, image):
            self._run_tower(tower, bundle, options, version)
        return [
            text,
            image,
            preprocessing.preprocess_text(bundle, options),
            preprocessing.preprocess_image(bundle, options),
            preprocessing.mask_rows(bundle, options),
            *ensembles.around_preprocessing(bundle, options, version),
        ]

    def warm_up(self, samples: Samples, options: ServingOptions) -> Iterator[WarmUp]:
        """Yield each bucket as a text and as ids, an image as a file and as pixels."""
        batches = warm_up_batches(options, on_cpu=self._on_cpu())
        for bucket, (text, ids) in samples.texts.items():
            name = f"bucket-{bucket}"
            yield WarmUp(PREPROCESS_TEXT, name, batches, {"text": text.encode()})
            yield WarmUp(TEXT_MODEL, name, batches, {"input_ids": ids})
        yield WarmUp(PREPROCESS_IMAGE, "picture", batches, {"image": samples.image})
        yield WarmUp(IMAGE_MODEL, "picture", batches, {"pixels": samples.pixels})
        row = {
            "vectors": np.ones(samples.embedding_dim, dtype=np.float32),
            "readable": np.ones(1, dtype=bool),
        }
        yield WarmUp(MASK_ROWS, "vector", batches, row)
