"""Configurations of the two towers, without a backend: that is the target's."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig
from vireo_client.repository import IMAGE_MODEL, TEXT_MODEL

from .parts import add_input, add_output, add_pixels, batch_dynamically, model, set_parameter
from .triton_config import ServingOptions

TEXT_CACHE_MIB = 64
"""Size of the cache of a tower that takes texts: some 25,000 embeddings of 512 numbers."""


def text_encoder(bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return a model from INT32 `input_ids` `[N, L]` to FP32 `embedding` `[N, D]`."""
    config = model(TEXT_MODEL, bundle, options)
    add_input(config, "input_ids", pb.TYPE_INT32, -1)
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    batch_dynamically(config, options)
    return config


def image_encoder(bundle: BundleConfig, options: ServingOptions) -> pb.ModelConfig:
    """Return a model from UINT8 `pixels` `[N, 3, H, W]` to FP32 `embedding` `[N, D]`."""
    config = model(IMAGE_MODEL, bundle, options)
    size = bundle.image.size
    add_input(config, "pixels", pb.TYPE_UINT8, 3, size, size)
    add_output(config, "embedding", pb.TYPE_FP32, bundle.embedding_dim)
    batch_dynamically(config, options)
    return config


def accept_texts(config: pb.ModelConfig, bundle: BundleConfig, options: ServingOptions) -> None:
    """Let the text tower take BYTES `text` `[N, 1]` in place of ids, and return the ids too.

    Such a tower checks its input and has a cache of its own.
    """
    config.input[0].optional = True
    add_input(config, "text", pb.TYPE_STRING, 1, optional=True)
    add_output(config, "input_ids", pb.TYPE_INT32, -1)
    set_parameter(config, "vocab_size", bundle.text.vocab_size)
    set_parameter(config, "max_length", bundle.text.max_length)
    set_parameter(config, "cache_mib", TEXT_CACHE_MIB if options.response_cache else 0)


def accept_images(config: pb.ModelConfig, bundle: BundleConfig) -> None:
    """Let the image tower take BYTES `image` `[N, 1]`, whole files, in place of pixels.

    It returns the pixels too, and the error of each row.
    """
    config.input[0].optional = True
    add_input(config, "image", pb.TYPE_STRING, 1, optional=True)
    add_pixels(config, bundle.image.size)
