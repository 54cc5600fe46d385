"""Retrieval metrics while training, on images that are decoded already."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from vireo_client.text.tokenize import TextTokenizer

from ..data.captions import Captions
from ..evaluation.metrics import retrieval_metrics
from ..models.dual_encoder import DualEncoder

_IMAGES, _CAPTIONS = 128, 512


class ValidationSet(NamedTuple):
    """Images and captions that choose the best epoch."""

    images: npt.NDArray[Any]
    """Pixels UINT8 `[N, 3, size, size]`, or features of a frozen tower FP32 `[N, 1, W]`."""
    captions: Captions
    """The captions of those images."""
    tokenizer: TextTokenizer
    """The tokenizer that gave the ids of `captions`."""


@torch.inference_mode()
def validate(model: DualEncoder, data: ValidationSet) -> dict[str, Any]:
    """Return the metrics of both directions over all captions, as they were written.

    The model is left in evaluation mode.
    """
    model.eval()
    images, captions = data.images, data.captions
    device, tower = next(model.parameters()).device, model.image_tower
    run = tower if images.dtype == np.uint8 else (lambda views: tower.project(views[:, 0]))
    embeddings = [
        run(torch.from_numpy(np.array(images[start : start + _IMAGES])).to(device)).cpu().numpy()
        for start in range(0, len(images), _IMAGES)
    ]
    written = captions.variants[0]
    rows = [written[number].tolist() for number in range(len(written))]
    texts = np.empty((len(rows), embeddings[0].shape[1]), dtype=np.float32)
    for positions, input_ids in data.tokenizer.pad(rows):
        for start in range(0, len(positions), _CAPTIONS):
            block = torch.from_numpy(input_ids[start : start + _CAPTIONS]).to(device)
            texts[positions[start : start + _CAPTIONS]] = model.text_tower(block).cpu().numpy()
    owner = np.repeat(np.arange(len(captions)), np.diff(captions.starts))
    return retrieval_metrics(np.concatenate(embeddings), texts, owner, captions.texts)
