"""The closed form that training begins with where there is little data.

A few hundred captioned photos teach a text tower less by gradients than a ridge regression finds at
once. So the image head becomes the principal components of the training images' features, and the
embedding of each token what regression from TF-IDF counts to those components gives it; contrastive
training goes on from there. Names of the classes that the image tower was trained to tell apart are
captions too (`class_names`): each of the direction that its classifier looks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from vireo_client.errors import TrainingError

from ..data.captions import Captions
from ..evaluation.tfidf_ridge import (
    PARTS,
    RidgeRegression,
    Terms,
    held_out,
    smoothed_idf,
    unit_rows,
)
from ..models.dual_encoder import DualEncoder
from ..models.text_towers.bag_of_words import BagOfWordsBackbone
from ..models.text_towers.transformer import TransformerBackbone

PENALTIES = (0.3, 1.0, 3.0, 10.0)
CLASS_WEIGHT = 0.5
"""What a class's name counts for, beside a caption."""
CLASS_LENGTH = 2.0
"""How far a class is from the mean, in mean distances of images: it is seen clearer in none."""


class Classes(NamedTuple):
    """What an image tower's classifier tells apart."""

    names: Captions
    """Of C classes."""
    weights: Tensor
    """FP32 `[C, W]`: the classifier's, in the space of the tower's features."""


@torch.no_grad()
def warm_start(
    model: DualEncoder,
    features: npt.NDArray[np.float32],
    captions: Captions,
    *,
    seed: int,
    classes: Classes | None = None,
) -> float:
    """Sets the image head and the token embeddings of `model` to the closed form.

    Image head: mean and principal components (Pearson, 1901) of the images' features, each the
    mean of its views. Tokens: ridge regression (Hoerl and Kennard, 1970) from TF-IDF counts, rows
    of unit length, to those components, with the penalty that finds the images of a held-out
    fifth best. Since a text's features are the mean of its tokens', and embeddings have unit
    length, the towers then answer as the regression does.

    Args:
        model: with the heads that `TrainConfig.warm_start` asks for.
        features: of a frozen image tower, FP32 `[N, views, W]`.
        captions: of those images; every variant is regressed on.
        seed: which fifth is held out.
        classes: further captions, with the same variants. The regression takes `CLASS_LENGTH` times
            the unit vector of a class's weights, less the mean of all classes, for its image.

    Returns:
        The penalty.

    Raises:
        TrainingError: there are fewer images than a regression can be held out from.
    """
    if len(features) < PARTS:
        raise TrainingError(f"warm_start: {len(features)} images are too few; set warm_start=false")
    views = torch.from_numpy(np.asarray(features.mean(axis=1)))
    *before, linear = [m for m in model.image_tower.head.modules() if not list(m.children())]
    assert isinstance(linear, nn.Linear)
    for module in before:
        if not isinstance(module, nn.Dropout):
            views = module(views)
    images = views.double()
    mean, components = _principal_components(images, linear.out_features)
    projected = (images - mean) @ components
    scale = 1 / projected.norm(dim=1).mean().clamp(min=1e-12)
    described, targets = [captions], projected
    if classes is not None:
        directions = classes.weights.double()
        directions = nn.functional.normalize(directions - directions.mean(dim=0), dim=1)
        length = CLASS_LENGTH * (images - mean).norm(dim=1).mean()
        described.append(classes.names)
        targets = torch.cat([projected, length * directions @ components])

    table = model.text_tower.backbone.get_submodule(_TABLES[type(model.text_tower.backbone)])
    assert isinstance(table, nn.Embedding)
    tokens = _Tokens(described, table.num_embeddings, model.text_tower.backbone.pad_id)
    weights = torch.ones(len(targets), dtype=torch.float64)
    weights[len(images) :] = CLASS_WEIGHT
    held = np.zeros(len(targets), dtype=bool)
    held[: len(images)] = held_out(len(images), seed)

    def regression(chosen: npt.NDArray[np.bool_]) -> RidgeRegression:
        texts, owner = tokens.of(chosen)
        return RidgeRegression(texts, owner, targets, idf=tokens.idf, weights=weights)

    texts, owner = tokens.of(held)
    penalty = regression(~held).best_penalty(
        PENALTIES, texts, (np.cumsum(held) - 1)[owner], unit_rows(targets[torch.from_numpy(held)])
    )
    embeddings = regression(held | ~held).solve(penalty) * tokens.idf[:, None]

    linear.weight.copy_((components * scale).T)
    linear.bias.copy_(-(mean @ components) * scale)
    table.weight.zero_()
    # As the mean of a text's tokens, of about the length that the images have.
    table.weight[tokens.ids] = (embeddings * scale * tokens.mean_length).float()
    return penalty


_TABLES: dict[type[nn.Module], str] = {
    BagOfWordsBackbone: "tokens", TransformerBackbone: "words",
}  # fmt: skip


class _Tokens:
    """The tokens of all variants of captions, as terms of a regression.

    Args:
        described: captions of images, and of classes where there are any, N owners in all; T =
            captions x variants rows.
        vocab_size: ids are below it.
        pad_id: an id that is no token.
    """

    def __init__(self, described: Sequence[Captions], vocab_size: int, pad_id: int) -> None:
        rows: list[npt.NDArray[np.int32]] = []
        owners, before = [], 0
        for captions in described:
            variants = captions.variants
            rows += [variant[number] for variant in variants for number in range(len(variant))]
            per_caption = np.repeat(np.arange(len(captions)), np.diff(captions.starts))
            owners.append(before + np.tile(per_caption, len(variants)))
            before += len(captions)
        self._owner = np.concatenate(owners)
        self.ids = np.setdiff1d(np.concatenate(rows), [pad_id])
        """INT64 `[V]`: the tokens that occur."""
        column = np.full(vocab_size, -1)
        column[self.ids] = np.arange(len(self.ids))
        columns = [column[row] for row in rows]
        self._texts = [each[each >= 0] for each in columns]
        self.idf = smoothed_idf(self._texts, len(self.ids))
        """FP64 `[V]`."""
        self.mean_length = float(np.mean([len(row) for row in rows[: len(owners[0])]]))
        """The mean length of the images' captions, in tokens."""

    def of(self, chosen: npt.NDArray[np.bool_]) -> tuple[list[Terms], npt.NDArray[np.int64]]:
        """Return the texts of the owners that BOOL `[N]` chooses, and each text's owner."""
        rows = np.flatnonzero(chosen[self._owner])
        return [self._texts[row] for row in rows], self._owner[rows]


def _principal_components(images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean FP64 `[W]` and components FP64 `[W, count]`, zeros where there are fewer."""
    mean = images.mean(dim=0)
    centred = images - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = torch.zeros(len(mean), count, dtype=torch.float64)
    there = min(count, len(mean), len(images) - 1)
    components[:, :there] = vectors.flip(1)[:, :there]
    return mean, components
