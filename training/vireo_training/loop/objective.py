"""The loss that a run's settings name, over the embeddings of a whole batch."""

from __future__ import annotations

from torch import Tensor

from ..config import TrainConfig
from ..models.dual_encoder import DualEncoder
from .loss import contrastive_loss, siglip_loss, soft_target_loss, text_pair_loss


def batch_loss(
    config: TrainConfig,
    model: DualEncoder,
    image: Tensor,
    text: Tensor,
    owner: Tensor,
    texts: Tensor,
) -> Tensor:
    """Return the loss of a batch, a scalar.

    Args:
        config: names the loss.
        model: its logit scale and bias.
        image: unit vectors of images `[B, D]`.
        text: unit vectors of captions `[T, D]`.
        owner: INT64 `[T]`, the row of each caption's image; from B on, the number of a group of
            captions without an image, which only `text_pairs` takes.
        texts: INT64 `[T]`, equal where the texts are equal.
    """
    scale, described = model.logit_scale, owner < len(image)
    own_texts, own, same = text[described], owner[described], texts[described]
    if model.logit_bias is not None:
        loss = siglip_loss(image, own_texts, own, scale, model.logit_bias, same)
    elif config.loss == "soft":
        loss = soft_target_loss(image, own_texts, own, scale)
    else:
        loss = contrastive_loss(image, own_texts, own, scale, same)
    if config.text_pairs:
        loss = loss + config.text_pairs * text_pair_loss(text, owner, scale, texts)
    return loss
