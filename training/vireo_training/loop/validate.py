"""Retrieval metrics while training, on pictures that are decoded already."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from vireo_client.text.tokenize import TextTokenizer

from ..data.batches import Captions
from ..evaluation.metrics import retrieval_metrics
from ..models.dual_encoder import DualEncoder

_PICTURES, _CAPTIONS = 128, 512


@torch.inference_mode()
def validate(
    model: DualEncoder, images: npt.NDArray[Any], captions: Captions, tokenizer: TextTokenizer
) -> dict[str, Any]:
    """Gives both directions' metrics over all captions, as they were written.

    Args:
        model: left in evaluation mode.
        images: pixels UINT8 `[N, 3, size, size]`, or features of a frozen tower FP32 `[N, 1, W]`.
        captions: of those pictures.
    """
    model.eval()
    device, tower = next(model.parameters()).device, model.image_tower
    run = tower if images.dtype == np.uint8 else (lambda views: tower.project(views[:, 0]))
    vectors = [
        run(torch.from_numpy(np.array(images[start : start + _PICTURES])).to(device)).cpu().numpy()
        for start in range(0, len(images), _PICTURES)
    ]
    written = captions.variants[0]
    rows = [written[number].tolist() for number in range(len(written))]
    texts = np.empty((len(rows), vectors[0].shape[1]), dtype=np.float32)
    for positions, input_ids in tokenizer.pad(rows):
        for start in range(0, len(positions), _CAPTIONS):
            block = torch.from_numpy(input_ids[start : start + _CAPTIONS]).to(device)
            texts[positions[start : start + _CAPTIONS]] = model.text_tower(block).cpu().numpy()
    owner = np.repeat(np.arange(len(captions)), np.diff(captions.starts))
    return retrieval_metrics(np.concatenate(vectors), texts, owner)
