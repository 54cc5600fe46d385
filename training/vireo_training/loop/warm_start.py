"""A closed form to begin training with where there is little data.

From a few hundred captioned photos, a ridge regression finds more at once than gradients teach a
text tower. So the image head is set to the principal components of the training images' features.
The embedding of each token is set by a regression from TF-IDF counts to those components.
Contrastive training goes on from there. Names of the classes of the image tower's classifier are
captions too (`class_names`): each describes the direction of its class in the classifier.
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
from ..data.same_text import Texts
from ..evaluation.tfidf_ridge import (
    PARTS,
    RidgeRegression,
    Terms,
    held_out,
    smoothed_idf,
    unit_rows,
)
from ..models.dual_encoder import DualEncoder
from ..models.text_towers.backbone import TextBackbone
from ..models.text_towers.bag_of_words import BagOfWordsBackbone
from ..models.text_towers.transformer import TransformerBackbone

PENALTIES = (0.3, 1.0, 3.0, 10.0)
CLASS_WEIGHT = 0.5
"""The weight of a class's name in the regression; a caption has 1."""
CLASS_LENGTH = 2.0
"""The distance of a class from the mean, in mean distances of images: no image shows a class as
clearly as the classifier's weights do."""


class Classes(NamedTuple):
    """The classes of an image tower's classifier."""

    names: Captions
    """The names of C classes, as captions."""
    weights: Tensor
    """The classifier's weights FP32 `[C, W]`, in the space of the tower's features."""


@torch.no_grad()
def warm_start(
    model: DualEncoder,
    features: npt.NDArray[np.float32],
    captions: Captions,
    *,
    seed: int,
    classes: Classes | None = None,
) -> float:
    """Set the image head and the token embeddings of `model` to the closed form.

    Image head: mean and principal components (Pearson, 1901) of the images' features, each the
    mean of its views. Tokens: ridge regression (Hoerl and Kennard, 1970) from TF-IDF counts, rows
    of unit length, to those components, with the penalty that ranks the images of a held-out
    fifth best. Since a text's features are the mean of its tokens', and embeddings have unit
    length, the towers then answer as the regression does.

    Args:
        model: has the heads that `TrainConfig.warm_start` requires.
        features: those of a frozen image tower, FP32 `[N, views, W]`.
        captions: the captions of those images; the regression uses every variant.
        seed: which fifth is held out.
        classes: further captions, with the same variants. Their targets are the classes' weights,
            less the mean of all, at unit length times `CLASS_LENGTH`.

    Returns:
        The penalty.

    Raises:
        TrainingError: there are too few images to hold a fifth out.
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

    backbone = model.text_tower.backbone
    assert isinstance(backbone, TextBackbone)
    table = backbone.get_submodule(_TABLES[type(backbone)])
    assert isinstance(table, nn.Embedding)
    tokens = _Tokens(described, table.num_embeddings, backbone.pad_id)
    weights = torch.ones(len(targets), dtype=torch.float64)
    weights[len(images) :] = CLASS_WEIGHT
    held = np.zeros(len(targets), dtype=bool)
    held[: len(images)] = held_out(len(images), seed)

    # The penalty by the images held out, then the regression over all of them.
    texts, owner, same = tokens.of(held)
    penalty = tokens.regression(~held, targets, weights).best_penalty(
        PENALTIES, texts, (np.cumsum(held) - 1)[owner], unit_rows(targets[torch.from_numpy(held)]),
        same,
    )  # fmt: skip
    everything = np.ones(len(targets), dtype=bool)
    regression = tokens.regression(everything, targets, weights)
    embeddings = regression.solve(penalty) * tokens.idf[:, None]

    linear.weight.copy_((components * scale).T)
    linear.bias.copy_(-(mean @ components) * scale)
    table.weight.zero_()
    # A text is the mean of its tokens, which gives it about the length of the images.
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
        owners, same, before = [], [], 0
        for captions in described:
            variants = captions.variants
            rows += [variant[number] for variant in variants for number in range(len(variant))]
            per_caption = np.repeat(np.arange(len(captions)), np.diff(captions.starts))
            owners.append(before + np.tile(per_caption, len(variants)))
            same.append(np.tile(captions.texts, len(variants)))
            before += len(captions)
        self._owner, self._same = np.concatenate(owners), np.concatenate(same)
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

    def of(self, chosen: npt.NDArray[np.bool_]) -> tuple[list[Terms], npt.NDArray[np.int64], Texts]:
        """Return the texts of the owners that BOOL `[N]` chooses, their owners and numbers."""
        rows = np.flatnonzero(chosen[self._owner])
        return [self._texts[row] for row in rows], self._owner[rows], self._same[rows]

    def regression(
        self, chosen: npt.NDArray[np.bool_], targets: Tensor, weights: Tensor
    ) -> RidgeRegression:
        """Return the regression from the texts of chosen owners to targets FP64 `[N, D]`."""
        texts, owner, _ = self.of(chosen)
        return RidgeRegression(texts, owner, targets, idf=self.idf, weights=weights)


def _principal_components(images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return mean FP64 `[W]` and components FP64 `[W, count]`, zeros where there are fewer."""
    mean = images.mean(dim=0)
    centred = images - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = torch.zeros(len(mean), count, dtype=torch.float64)
    there = min(count, len(mean), len(images) - 1)
    components[:, :there] = vectors.flip(1)[:, :there]
    return mean, components
