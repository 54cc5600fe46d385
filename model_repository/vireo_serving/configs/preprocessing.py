"""Configurations of the Python models around towers that take ids and pixels alone."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.repository import MASK_ROWS, PREPROCESS_IMAGE, PREPROCESS_TEXT

from .parts import (
    add_input,
    add_output,
    add_pixels,
    batch_dynamically,
    model,
    run_on_cpu,
    set_parameter,
)
from .triton_config import ServingOptions


def preprocess_text(bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return a model from BYTES `text` `[N, 1]` to INT32 `input_ids` `[N, L]`.

    Never cached: Triton caches errors too, and answers the next such request with success and no
    output.
    """
    config = _python_model(PREPROCESS_TEXT, bundle, options)
    add_input(config, "text", pb.TYPE_STRING, 1)
    add_output(config, "input_ids", pb.TYPE_INT32, -1)
    return config


def preprocess_image(bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return a model from BYTES `image` `[N, 1]` to UINT8 `pixels` `[N, 3, H, W]`.

    BOOL `readable` and BYTES `error` describe each row. Never cached either; besides, Triton's key
    leaves out a request's parameters, of which `partial` matters.
    """
    config = _python_model(PREPROCESS_IMAGE, bundle, options)
    add_input(config, "image", pb.TYPE_STRING, 1)
    add_pixels(config, bundle.image.size)
    set_parameter(config, "threads", options.threads)
    return config


def mask_rows(bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return a model that sets the embeddings of unreadable images to zero.

    FP32 `vectors` `[N, D]` and BOOL `readable` `[N, 1]` to FP32 `embedding` `[N, D]`.
    """
    config = _python_model(MASK_ROWS, bundle, options)
    add_input(config, "vectors", pb.TYPE_FP32, bundle.embedding_dim)
    add_input(config, "readable", pb.TYPE_BOOL, 1)
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    return config


def _python_model(name: str, bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    config = model(name, bundle, options)
    config.backend = "python"
    batch_dynamically(config, options)
    run_on_cpu(config)
    return config
