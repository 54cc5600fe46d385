"""Losses of a batch of images with one or several captions each.

A caption *fits* an image if it is one of the image's captions, or has the same text as one of them:
the text of another image's caption. What fits is never a negative.

Each is a function of unit vectors and works in any floating dtype. On several devices the batch is
gathered first (`gather.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    image_embeddings: Tensor,
    text_embeddings: Tensor,
    owner: Tensor,
    logit_scale: Tensor,
    texts: Tensor | None = None,
) -> Tensor:
    """Return symmetric InfoNCE, in which captions of one image are not each other's negatives.

    Each caption must pick its image among that image and those that it does not fit. Each image
    must pick each of its captions among that caption and the captions that do not fit the image:
    its own further captions are left out of the denominator, as in supervised contrastive learning
    (Khosla et al., 2020, equation 2, with the positives removed from the denominator). With one
    caption per image, all different, it is the loss of CLIP (Radford et al., 2021, figure 3).

    Args:
        image_embeddings: unit vectors `[B, D]`.
        text_embeddings: unit vectors `[T, D]`.
        owner: INT64 `[T]`, the row of `image_embeddings` that each caption describes; every
            image has at least one caption.
        logit_scale: scalar, 1 / temperature.
        texts: INT64 `[T]`, equal where the texts are equal; by default no two are.

    Returns:
        A scalar: the mean of both directions.
    """
    logits = logit_scale * text_embeddings @ image_embeddings.T  # [T, B]
    own, fitting = _own(owner, len(image_embeddings)), _fitting(owner, len(image_embeddings), texts)
    text_to_image = F.cross_entropy(logits.masked_fill(fitting & ~own, -torch.inf), owner)

    positive = logits[torch.arange(len(owner), device=owner.device), owner]  # [T]
    negatives = logits.masked_fill(fitting, -torch.inf).logsumexp(dim=0)  # [B]
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
    texts: Tensor | None = None,
) -> Tensor:
    """Return the sigmoid loss, which classifies each pair of an image and a caption by itself.

    Zhai et al., 2023, "Sigmoid Loss for Language Image Pre-Training", algorithm 1: every caption of
    an image has label +1 with it, every pair that does not fit -1; captions that fit an image but
    are another's have no part in it. A caption weighs 1 / captions of its
    image, so that each pair of images weighs the same however often either was described, and a
    caption given twice changes nothing. With one caption per image, all
    different, it is the paper's loss.

    Args:
        image_embeddings: unit vectors `[B, D]`.
        text_embeddings: unit vectors `[T, D]`.
        owner: INT64 `[T]`, the row of `image_embeddings` that each caption describes.
        logit_scale: scalar, 1 / temperature.
        logit_bias: scalar, added to every logit; about -10 at the start, since most pairs are
            wrong.
        texts: as for `contrastive_loss`.

    Returns:
        A scalar: the sum over all pairs, divided by the number of images.
    """
    logits = logit_scale * text_embeddings @ image_embeddings.T + logit_bias  # [T, B]
    own, fitting = _own(owner, len(image_embeddings)), _fitting(owner, len(image_embeddings), texts)
    labels = torch.full_like(logits, -1.0).masked_fill(own, 1.0)
    per_pair = F.logsigmoid(labels * logits).masked_fill(fitting & ~own, 0.0)
    per_caption = -per_pair.sum(dim=1)  # [T]
    captions = torch.bincount(owner, minlength=len(image_embeddings))
    return (per_caption / captions[owner]).sum() / len(image_embeddings)


def soft_target_loss(
    image_embeddings: Tensor, text_embeddings: Tensor, owner: Tensor, logit_scale: Tensor
) -> Tensor:
    """Return cross-entropy towards targets that the batch's own similarities soften.

    Shariatnia, 2021, "Simple CLIP", which PhoCLIP and End-to-End Image Retrieval with Vietnamese
    took over: pair i of a caption and its image is to pick pair j as far as their captions, and
    their images, resemble each other. The gradient goes through the targets as well. Similarities
    are divided by the temperature like the logits; at 1.0, which the sources have, that is their
    formula. So captions with one text, or of one image, are hardly each other's negatives.

    Args:
        image_embeddings: unit vectors `[B, D]`.
        text_embeddings: unit vectors `[T, D]`.
        owner: INT64 `[T]`, the row of `image_embeddings` that each caption describes.
        logit_scale: scalar, 1 / temperature.

    Returns:
        A scalar: the mean of both directions over the T pairs.
    """
    images = image_embeddings[owner]  # [T, D]: a pair for each caption
    logits = logit_scale * text_embeddings @ images.T
    alike = (images @ images.T + text_embeddings @ text_embeddings.T) / 2
    targets = (logit_scale * alike).softmax(dim=1)
    # From image to text the same targets, transposed: their rows do not sum to 1 exactly.
    text_to_image = -(targets * logits.log_softmax(dim=1)).sum(dim=1)
    image_to_text = -(targets.T * logits.T.log_softmax(dim=1)).sum(dim=1)
    return (text_to_image + image_to_text).mean() / 2


def text_pair_loss(
    text_embeddings: Tensor, owner: Tensor, logit_scale: Tensor, texts: Tensor | None = None
) -> Tensor:
    """Return InfoNCE between captions, which draws those of one image together.

    Each caption must pick each of its siblings, the other captions of its image, among that
    sibling and the captions that do not fit its image; its further siblings are left out of the
    denominator as in `contrastive_loss`. A caption without siblings is only a negative to others.
    It is supervised contrastive learning (Khosla et al., 2020, equation 2, with the other positives
    removed from the denominator) with images as classes.

    Args:
        text_embeddings: unit vectors `[T, D]`.
        owner: INT64 `[T]`; captions with one number are siblings. No image itself is needed.
        logit_scale: scalar, 1 / temperature.
        texts: as for `contrastive_loss`.

    Returns:
        A scalar: the mean over siblings, then over an image's captions, then over the images
        that have several. Without any such image it is 0, and so are its gradients.
    """
    logits = logit_scale * text_embeddings @ text_embeddings.T  # [T, T]
    same = owner[:, None] == owner
    captions = torch.bincount(owner)
    fitting = _fitting(owner, len(captions), texts).T[owner]  # [T, T]: those of its image
    negatives = logits.masked_fill(fitting, -torch.inf).logsumexp(dim=1)  # [T]
    others = same & ~torch.eye(len(owner), dtype=torch.bool, device=owner.device)
    caption, sibling = others.nonzero(as_tuple=True)
    positive = logits[caption, sibling]
    per_pair = torch.logaddexp(positive, negatives[caption]) - positive
    pairs = captions * (captions - 1)
    per_image: Tensor = (per_pair / pairs[owner[caption]]).sum()
    return per_image / (captions > 1).sum().clamp(min=1)


def _own(owner: Tensor, images: int) -> Tensor:
    """Return which captions are each image's own, BOOL `[T, images]`."""
    return owner[:, None] == torch.arange(images, device=owner.device)


def _fitting(owner: Tensor, images: int, texts: Tensor | None) -> Tensor:
    """Return which captions fit each image, BOOL `[T, images]`."""
    if texts is None:
        return _own(owner, images)
    different, text = texts.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    said = torch.zeros(len(different), images, dtype=torch.bool, device=owner.device)
    said[text, owner] = True
    return said[text]
