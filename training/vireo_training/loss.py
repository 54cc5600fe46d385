"""The contrastive loss, truthful about several captions of one picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    image_embeddings: Tensor, text_embeddings: Tensor, picture: Tensor, logit_scale: Tensor
) -> Tensor:
    """Symmetric InfoNCE in which captions of one picture are not each other's negatives.

    Each caption must pick its picture among all pictures of the batch. Each picture must pick each
    of its captions among that caption and the captions of *other* pictures: its own further
    captions are left out of the denominator, as in supervised contrastive learning (Khosla et al.,
    2020, equation 2, with the positives removed from the denominator). With one caption a picture
    it is the loss of CLIP (Radford et al., 2021, figure 3).

    Args:
        image_embeddings: unit vectors `[B, D]`.
        text_embeddings: unit vectors `[T, D]`.
        picture: INT64 `[T]`, the row of `image_embeddings` that each caption describes; every
            picture has at least one caption.
        logit_scale: scalar, 1 / temperature.

    Returns:
        A scalar: the mean of both directions.
    """
    logits = logit_scale * text_embeddings @ image_embeddings.T  # [T, B]
    text_to_image = F.cross_entropy(logits, picture)

    rows = torch.arange(len(picture), device=picture.device)
    positive = logits[rows, picture]  # [T]
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[rows, picture] = True
    negatives = logits.masked_fill(own, -torch.inf).logsumexp(dim=0)  # [B]: over others' captions
    per_caption = torch.logaddexp(positive, negatives[picture]) - positive
    captions = torch.bincount(picture, minlength=len(image_embeddings)).clamp(min=1)
    # Every picture weighs the same, whatever its number of captions.
    image_to_text = (per_caption / captions[picture]).sum() / len(image_embeddings)
    return (text_to_image + image_to_text) / 2
