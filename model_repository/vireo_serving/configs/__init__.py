"""The configurations of all models of a repository, built as Triton's own protobuf messages."""

from __future__ import annotations

from tritonclient.grpc import model_config_pb2 as pb
from vireo_client.bundle import BundleConfig

from . import ensembles, preprocessing
from .towers import image_encoder, text_encoder
from .triton_config import ServingOptions, Target

__all__ = ["build_configs"]


def build_configs(
    bundle: BundleConfig, options: ServingOptions, *, target: Target = "cpu", version: int = 1
) -> dict[str, pb.ModelConfig]:
    """Builds the configuration of every model, without warm-up; see `warm_up.py`.

    Args:
        bundle: what the models are made from.
        options: what the operator set.
        target: what runs the towers.
        version: the one version that Triton is to load.

    Returns:
        The configurations by model name, those first that others are made of.
    """
    configs = [
        text_encoder(bundle, options, target, version),
        image_encoder(bundle, options, target, version),
    ]
    if target == "cpu":
        configs += [
            ensembles.preprocess_text(bundle, options, version),
            ensembles.preprocess_image(bundle, options, version),
        ]
    else:
        configs += [
            preprocessing.preprocess_text(bundle, options),
            preprocessing.preprocess_image(bundle, options),
            preprocessing.mask_rows(bundle, options),
        ]
    configs += [
        ensembles.embed_text(bundle, options, target, version),
        ensembles.embed_image(bundle, options, target, version),
    ]
    for config in configs:
        config.version_policy.specific.versions.append(version)
    return {config.name: config for config in configs}
