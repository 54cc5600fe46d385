"""Losses of a batch of images with one or several captions each.

Each is a function of unit vectors and works in any floating dtype. On several devices the batch is
gathered first (`gather.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    image_embeddings: Tensor, text_embeddings: Tensor, owner: Tensor, logit_scale: Tensor
) -> Tensor:
    """Return symmetric InfoNCE, in which captions of one image are not each other's negatives.

    Each caption must pick its image among all images of the batch. Each image must pick each
    of its captions among that caption and the captions of *other* images: its own further
    captions are left out of the denominator, as in supervised contrastive learning (Khosla et al.,
    2020, equation 2, with the positives removed from the denominator). With one caption per image
    it is the loss of CLIP (Radford et al., 2021, figure 3).

    Args:
        image_embeddings: unit vectors `[B, D]`.
        text_embeddings: unit vectors `[T, D]`.
        owner: INT64 `[T]`, the row of `image_embeddings` that each caption describes; every
            image has at least one caption.
        logit_scale: scalar, 1 / temperature.

    Returns:
        A scalar: the mean of both directions.
    """
    logits = logit_scale * text_embeddings @ image_embeddings.T  # [T, B]
    text_to_image = F.cross_entropy(logits, owner)

    rows = torch.arange(len(owner), device=owner.device)
    positive = logits[rows, owner]  # [T]
    own = torch.zeros_like(logits, dtype=torch.bool)
    own[rows, owner] = True
    negatives = logits.masked_fill(own, -torch.inf).logsumexp(dim=0)  # [B]: over others' captions
    per_caption = torch.logaddexp(positive, negatives[owner]) - positive
    captions = torch.bincount(owner, minlength=len(image_embeddings)).clamp(min=1)
    # Every image weighs the same, whatever its number of captions.
    image_to_text = (per_caption / captions[owner]).sum() / len(image_embeddings)
    return (text_to_image + image_to_text) / 2


def siglip_loss(
    image_embeddings: Tensor,
    text_embeddings: Tensor,
    owner: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
) -> Tensor:
    """Return the sigmoid loss, which classifies each pair of an image and a caption by itself.

    Zhai et al., 2023, "Sigmoid Loss for Language Image Pre-Training", algorithm 1: every caption of
    an image has label +1 with it, every other pair -1. A caption weighs 1 / captions of its
    image, so that each pair of images weighs the same however often either was described, and a
    caption given twice changes nothing. With one caption per image it is the paper's loss.

    Args:
        image_embeddings: unit vectors `[B, D]`.
        text_embeddings: unit vectors `[T, D]`.
        owner: INT64 `[T]`, the row of `image_embeddings` that each caption describes.
        logit_scale: scalar, 1 / temperature.
        logit_bias: scalar, added to every logit; about -10 at the start, since most pairs are
            wrong.

    Returns:
        A scalar: the sum over all pairs, divided by the number of images.
    """
    logits = logit_scale * text_embeddings @ image_embeddings.T + logit_bias  # [T, B]
    labels = torch.full_like(logits, -1.0)
    labels[torch.arange(len(owner), device=owner.device), owner] = 1.0
    per_caption = -F.logsigmoid(labels * logits).sum(dim=1)  # [T]
    captions = torch.bincount(owner, minlength=len(image_embeddings))
    return (per_caption / captions[owner]).sum() / len(image_embeddings)


def text_pair_loss(text_embeddings: Tensor, owner: Tensor, logit_scale: Tensor) -> Tensor:
    """Return InfoNCE between captions, which draws those of one image together.

    Each caption must pick each of its siblings, the other captions of its image, among that
    sibling and the captions of other images; its further siblings are left out of the denominator
    as in `contrastive_loss`. A caption without siblings is only a negative to others. It is
    supervised contrastive learning (Khosla et al., 2020, equation 2, with the other positives
    removed from the denominator) with images as classes.

    Args:
        text_embeddings: unit vectors `[T, D]`.
        owner: INT64 `[T]`; captions with one number are siblings. No image itself is needed.
        logit_scale: scalar, 1 / temperature.

    Returns:
        A scalar: the mean over siblings, then over an image's captions, then over the images
        that have several. Without any such image it is 0, and so are its gradients.
    """
    logits = logit_scale * text_embeddings @ text_embeddings.T  # [T, T]
    same = owner[:, None] == owner
    negatives = logits.masked_fill(same, -torch.inf).logsumexp(dim=1)  # [T]: over others' captions
    others = same & ~torch.eye(len(owner), dtype=torch.bool, device=owner.device)
    caption, sibling = others.nonzero(as_tuple=True)
    positive = logits[caption, sibling]
    per_pair = torch.logaddexp(positive, negatives[caption]) - positive
    captions = torch.bincount(owner)
    pairs = captions * (captions - 1)
    per_image: Tensor = (per_pair / pairs[owner[caption]]).sum()
    return per_image / (captions > 1).sum().clamp(min=1)
