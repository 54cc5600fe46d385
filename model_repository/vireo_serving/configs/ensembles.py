"""Configurations of the ensembles: a string or a file in, a vector out."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.repository import (
    EMBED_IMAGE,
    EMBED_TEXT,
    IMAGE_MODEL,
    MASK_ROWS,
    PREPROCESS_IMAGE,
    PREPROCESS_TEXT,
    TEXT_MODEL,
)

from .parts import add_input, add_output, add_pixels, model
from .triton_config import ServingOptions, Target


def embed_text(
    bundle: BundleConfig, options: ServingOptions, target: Target, version: int
) -> pb.ModelConfig:
    """BYTES `text` `[N, 1]` to FP32 `embedding` `[N, D]`."""
    config = _ensemble(EMBED_TEXT, bundle, options)
    add_input(config, "text", pb.TYPE_STRING, 1)
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    if target == "cpu":
        _step(config, TEXT_MODEL, version, {"text": "text"}, {"embedding": "embedding"})
        return config
    _step(config, PREPROCESS_TEXT, version, {"text": "text"}, {"input_ids": "ids"})
    _step(config, TEXT_MODEL, version, {"input_ids": "ids"}, {"embedding": "embedding"})
    return config


def embed_image(
    bundle: BundleConfig, options: ServingOptions, target: Target, version: int
) -> pb.ModelConfig:
    """BYTES `image` `[N, 1]` to FP32 `embedding` `[N, D]` and BYTES `error` `[N, 1]`."""
    config = _ensemble(EMBED_IMAGE, bundle, options)
    add_input(config, "image", pb.TYPE_STRING, 1)
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    add_output(config, "error", pb.TYPE_STRING, 1)
    if target == "cpu":
        _step(
            config, IMAGE_MODEL, version, {"image": "image"},
            {"embedding": "embedding", "error": "error"},
        )  # fmt: skip
        return config
    _step(
        config, PREPROCESS_IMAGE, version, {"image": "image"},
        {"pixels": "pixels", "readable": "readable", "error": "error"},
    )  # fmt: skip
    _step(config, IMAGE_MODEL, version, {"pixels": "pixels"}, {"embedding": "vectors"})
    _step(
        config, MASK_ROWS, version, {"vectors": "vectors", "readable": "readable"},
        {"embedding": "embedding"},
    )  # fmt: skip
    return config


def preprocess_text(bundle: BundleConfig, options: ServingOptions, version: int) -> pb.ModelConfig:
    """BYTES `text` `[N, 1]` to INT32 `input_ids` `[N, L]`, by a tower that has the text path."""
    config = _ensemble(PREPROCESS_TEXT, bundle, options)
    add_input(config, "text", pb.TYPE_STRING, 1)
    add_output(config, "input_ids", pb.TYPE_INT32, -1)
    _step(config, TEXT_MODEL, version, {"text": "text"}, {"input_ids": "input_ids"})
    return config


def preprocess_image(bundle: BundleConfig, options: ServingOptions, version: int) -> pb.ModelConfig:
    """BYTES `image` `[N, 1]` to pixels, by a tower that has the image path."""
    config = _ensemble(PREPROCESS_IMAGE, bundle, options)
    add_input(config, "image", pb.TYPE_STRING, 1)
    add_pixels(config, bundle.image.size)
    names = [output.name for output in config.output]
    _step(config, IMAGE_MODEL, version, {"image": "image"}, dict(zip(names, names, strict=True)))
    return config


def _ensemble(name: str, bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    config = model(name, bundle, options)
    config.platform = "ensemble"
    return config


def _step(
    config: pb.ModelConfig, name: str, version: int, inputs: dict[str, str], outputs: dict[str, str]
) -> None:
    """Adds a model; the maps go from its own tensor names to the ensemble's."""
    config.ensemble_scheduling.step.add(
        model_name=name, model_version=version, input_map=inputs, output_map=outputs
    )
