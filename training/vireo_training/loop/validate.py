"""Retrieval metrics and loss while training, on images that are decoded already."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from vireo_client.text.tokenize import TextTokenizer

from ..config import TrainConfig
from ..data.captions import Captions
from ..evaluation.metrics import retrieval_metrics
from ..models.dual_encoder import DualEncoder
from .objective import batch_loss

_IMAGES, _CAPTIONS = 128, 512


class ValidationSet(NamedTuple):
    """Images and captions that choose the best epoch."""

    images: npt.NDArray[Any]
    """Pixels UINT8 `[N, 3, size, size]`, or features of a frozen tower FP32 `[N, 1, W]`."""
    captions: Captions
    """The captions of those images."""
    tokenizer: TextTokenizer
    """The tokenizer that gave the ids of `captions`."""
    batch_size: int
    """Images in a batch of the loss, as in training."""


@torch.inference_mode()
def validate(model: DualEncoder, data: ValidationSet, config: TrainConfig) -> dict[str, Any]:
    """Return the metrics of both directions over all captions, as they were written, and the loss.

    The model is left in evaluation mode.
    """
    model.eval()
    images, captions = data.images, data.captions
    device, tower = next(model.parameters()).device, model.image_tower
    run = tower if images.dtype == np.uint8 else (lambda views: tower.project(views[:, 0]))
    embeddings = torch.cat([
        run(torch.from_numpy(np.array(images[start : start + _IMAGES])).to(device)).cpu()
        for start in range(0, len(images), _IMAGES)
    ])  # fmt: skip
    written = captions.variants[0]
    rows = [written[number].tolist() for number in range(len(written))]
    texts = torch.empty((len(rows), embeddings.shape[1]))
    for positions, input_ids in data.tokenizer.pad(rows):
        for start in range(0, len(positions), _CAPTIONS):
            block = torch.from_numpy(input_ids[start : start + _CAPTIONS]).to(device)
            texts[positions[start : start + _CAPTIONS]] = model.text_tower(block).cpu()
    owner = np.repeat(np.arange(len(captions)), np.diff(captions.starts))
    metrics = retrieval_metrics(embeddings.numpy(), texts.numpy(), owner, captions.texts)
    return {"validation_loss": _loss(model, data, config, embeddings, texts), **metrics}


def _loss(
    model: DualEncoder, data: ValidationSet, config: TrainConfig, images: Tensor, texts: Tensor
) -> float:
    """Return the loss as training takes it, in batches of its size, whatever the epoch.

    Each image has the first `captions_per_picture` of its captions. The batches are as equal as
    possible: their mean then weighs all images nearly the same.
    """
    captions, device = data.captions, model.log_logit_scale.device
    order = np.random.default_rng(config.seed).permutation(len(captions))
    losses = []
    for rows in np.array_split(order, math.ceil(len(order) / data.batch_size)):
        chosen = [np.arange(*captions.starts[row : row + 2])[: config.captions_per_picture]
                  for row in rows]  # fmt: skip
        numbers = np.concatenate(chosen)
        owner = np.repeat(np.arange(len(rows)), [len(each) for each in chosen])
        loss = batch_loss(
            config, model, images[rows].to(device), texts[numbers].to(device),
            torch.from_numpy(owner).to(device),
            torch.from_numpy(captions.texts[numbers]).to(device),
        )  # fmt: skip
        losses.append(loss.item() * len(rows))
    return round(sum(losses) / len(order), 6)
