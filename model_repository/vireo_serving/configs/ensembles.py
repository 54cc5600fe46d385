"""Configurations of the ensembles: from a text or an image file to an embedding."""

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
from .triton_config import ServingOptions


def around_whole_towers(
    bundle: BundleConfig, options: ServingOptions, version: int
) -> list[pb.ModelConfig]:
    """Return all ensembles over towers that preprocess, see `accept_texts` and `accept_images`."""
    embed_text, embed_image = _embed_text(bundle, options), _embed_image(bundle, options)
    _step(embed_text, TEXT_MODEL, version, {"text": "text"}, {"embedding": "embedding"})
    _step(
        embed_image, IMAGE_MODEL, version, {"image": "image"},
        {"embedding": "embedding", "error": "error"},
    )  # fmt: skip
    return [
        _preprocess_text(bundle, options, version),
        _preprocess_image(bundle, options, version),
        embed_text,
        embed_image,
    ]


def around_preprocessing(
    bundle: BundleConfig, options: ServingOptions, version: int
) -> list[pb.ModelConfig]:
    """Return all ensembles over the models of `preprocessing.py` and towers without them."""
    embed_text, embed_image = _embed_text(bundle, options), _embed_image(bundle, options)
    _step(embed_text, PREPROCESS_TEXT, version, {"text": "text"}, {"input_ids": "ids"})
    _step(embed_text, TEXT_MODEL, version, {"input_ids": "ids"}, {"embedding": "embedding"})
    _step(
        embed_image, PREPROCESS_IMAGE, version, {"image": "image"},
        {"pixels": "pixels", "readable": "readable", "error": "error"},
    )  # fmt: skip
    _step(embed_image, IMAGE_MODEL, version, {"pixels": "pixels"}, {"embedding": "vectors"})
    _step(
        embed_image, MASK_ROWS, version, {"vectors": "vectors", "readable": "readable"},
        {"embedding": "embedding"},
    )  # fmt: skip
    return [embed_text, embed_image]


def _embed_text(bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return an ensemble from BYTES `text` `[N, 1]` to FP32 `embedding` `[N, D]`."""
    config = _ensemble(EMBED_TEXT, bundle, options)
    add_input(config, "text", pb.TYPE_STRING, 1)
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    return config


def _embed_image(bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return one from BYTES `image` `[N, 1]` to FP32 `embedding` `[N, D]` and BYTES `error`."""
    config = _ensemble(EMBED_IMAGE, bundle, options)
    add_input(config, "image", pb.TYPE_STRING, 1)
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    add_output(config, "error", pb.TYPE_STRING, 1)
    return config


def _preprocess_text(bundle: BundleConfig, options: ServingOptions, version: int) -> pb.ModelConfig:
    """Return one from BYTES `text` `[N, 1]` to INT32 `input_ids` `[N, L]`."""
    config = _ensemble(PREPROCESS_TEXT, bundle, options)
    add_input(config, "text", pb.TYPE_STRING, 1)
    add_output(config, "input_ids", pb.TYPE_INT32, -1)
    _step(config, TEXT_MODEL, version, {"text": "text"}, {"input_ids": "input_ids"})
    return config


def _preprocess_image(
    bundle: BundleConfig, options: ServingOptions, version: int
) -> pb.ModelConfig:
    """Return one from BYTES `image` `[N, 1]` to pixels."""
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
    """Add a model; the maps go from its own tensor names to the ensemble's."""
    config.ensemble_scheduling.step.add(
        model_name=name, model_version=version, input_map=inputs, output_map=outputs
    )
