"""The inputs of a run's towers: images as pixels or features, and the batches made of them."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy.typing as npt
from accelerate import Accelerator
from vireo_client.errors import DataError, TrainingError

from ..config import ImageAugmentation, TrainConfig
from ..data.augment import make_augmentation
from ..data.batches import BatchMaker
from ..data.prepare import Prepared
from ..models.dual_encoder import DualEncoder
from ..models.image_tower import classifier_weights
from .features import features_key, frozen_features
from .warm_start import Classes

logger = logging.getLogger(__name__)


def image_inputs(
    model: DualEncoder,
    config: TrainConfig,
    prepared: Prepared,
    folder: Path,
    accelerator: Accelerator,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return the image tower's inputs for training and, where there is any, for validation.

    Args:
        folder: keeps the features of a frozen tower, for other runs too.

    Returns:
        Pixels UINT8 `[N, 3, side, side]`; or, of a tower that stays frozen to the end, features
        FP32 `[N, views, W]`, with one view for validation.
    """
    held = prepared.validation
    if not config.image.freeze or config.image.unfreeze_after is not None:
        return prepared.train.pixels, held.pixels if held else None
    unchanged = config.model_copy(update={"augment": ImageAugmentation()})
    views = config.feature_views if config.augment.changes else 1
    subsets = [(prepared.train, config, views, "training")]
    subsets += [(held, unchanged, 1, "validation")] if held else []
    features = []
    for subset, settings, count, name in subsets:
        key = features_key(model.image_tower, settings, subset.pixels, count)
        with accelerator.local_main_process_first():
            features.append(
                frozen_features(
                    model.image_tower, subset.pixels,
                    make_augmentation(settings.augment, prepared.image_spec.size),
                    views=count, seed=config.seed, path=folder / f"features-{key}.npy",
                    label=f"features of {name} images",
                )
            )  # fmt: skip
    return features[0], features[1] if held else None


def named_classes(config: TrainConfig, prepared: Prepared) -> Classes | None:
    """Return the classes of the image tower's classifier, if they have names and it is there."""
    if prepared.classes is None:
        return None
    weights = classifier_weights(config.image, len(prepared.classes))
    if weights is None:
        logger.warning(
            "class_names can do nothing: the weights of %s have no classifier of %d classes",
            config.image.name, len(prepared.classes),
        )  # fmt: skip
        return None
    return Classes(prepared.classes, weights)


def make_batch_maker(
    config: TrainConfig, prepared: Prepared, images: npt.NDArray[Any], accelerator: Accelerator
) -> BatchMaker:
    """Return the maker of this process's part of each batch, over `images` of `image_inputs`."""
    tokenizer = prepared.text_path.tokenizer
    # A model of others with one bucket takes its embedding at that place.
    fixed = config.source is not None and len(tokenizer.buckets) == 1
    return BatchMaker(
        images=images,
        captions=prepared.train.captions,
        others=prepared.others if config.text_pairs else None,
        captions_per_picture=config.captions_per_picture,
        chunk=config.grad_cache or config.batch_size,
        pad_id=tokenizer.pad_id,
        text_augment=config.text_augment,
        augment=make_augmentation(config.augment, prepared.image_spec.size),
        seed=config.seed,
        devices=accelerator.num_processes,
        device=accelerator.process_index,
        length=tokenizer.buckets[0] if fixed else None,
        pad_side=tokenizer.pad_side,
    )


def fitting_batch_size(config: TrainConfig, images: int, devices: int) -> int:
    """Return how many images a batch has: as many on each device, within the settings and the set.

    Raises:
        DataError: there are too few images for a batch.
        TrainingError: the settings leave fewer images a device than can train.
    """
    size = min(config.batch_size, images) // devices * devices
    if size < 2:
        raise DataError(
            f"{images} image(s) to train on, batch_size {config.batch_size}, {devices} "
            "device(s): a batch needs two images and one for each device"
        )
    each = size // devices
    # Chunks are as equal as possible; the smallest counts.
    chunk = each // math.ceil(each / (config.grad_cache or each))
    if chunk < 2 and "mlp" in (config.image.head.kind, config.text.head.kind):
        raise TrainingError(
            "an mlp head has batch norm, which cannot take statistics of one image: give "
            "batch_size / devices of 2 or more, and a grad_cache that leaves no image of it alone, "
            "or another head.kind"
        )
    return size
