"""The closed form that training begins with where there is little data.

A few hundred captioned photos teach a text tower less by gradients than a ridge regression finds at
once. So the image head becomes the principal components of the training pictures' features, and the
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
from ..evaluation.metrics import summarise, text_to_image_ranks
from ..models.dual_encoder import DualEncoder
from ..models.text_towers.bag_of_words import BagOfWordsBackbone
from ..models.text_towers.transformer import TransformerBackbone

PENALTIES = (0.3, 1.0, 3.0, 10.0)
CLASS_WEIGHT = 0.5
"""What a class's name counts for, beside a caption."""
CLASS_LENGTH = 2.0
"""How far a class is from the mean, in mean distances of pictures: it is seen clearer in none."""
_HELD_OUT = 5
_BLOCK = 4096


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

    Image head: mean and principal components (Pearson, 1901) of the pictures' features, each the
    mean of its views. Tokens: ridge regression (Hoerl and Kennard, 1970) from TF-IDF counts, rows
    of unit length, to those components, with the penalty that finds the pictures of a held-out
    fifth best. Since a text's features are the mean of its tokens', and embeddings have unit
    length, the towers then answer as the regression does.

    Args:
        model: with the heads that `TrainConfig.warm_start` asks for.
        features: of a frozen image tower, FP32 `[N, views, W]`.
        captions: of those pictures; every variant is regressed on.
        seed: which fifth is held out.
        classes: further captions, with the same variants. The regression takes `CLASS_LENGTH` times
            the unit vector of a class's weights, less the mean of all classes, for its picture.

    Returns:
        The penalty.

    Raises:
        TrainingError: there are fewer pictures than a regression can be held out from.
    """
    if len(features) < _HELD_OUT:
        raise TrainingError(
            f"warm_start: {len(features)} pictures are too few; set warm_start=false"
        )
    views = torch.from_numpy(np.asarray(features.mean(axis=1)))
    *before, linear = [m for m in model.image_tower.head.modules() if not list(m.children())]
    assert isinstance(linear, nn.Linear)
    for module in before:
        if not isinstance(module, nn.Dropout):
            views = module(views)
    pictures = views.double()
    mean, components = _principal_components(pictures, linear.out_features)
    projected = (pictures - mean) @ components
    scale = 1 / projected.norm(dim=1).mean().clamp(min=1e-12)
    described, targets = [captions], projected
    if classes is not None:
        directions = classes.weights.double()
        directions = nn.functional.normalize(directions - directions.mean(dim=0), dim=1)
        length = CLASS_LENGTH * (pictures - mean).norm(dim=1).mean()
        described.append(classes.names)
        targets = torch.cat([projected, length * directions @ components])

    table = model.text_tower.backbone.get_submodule(_TABLES[type(model.text_tower.backbone)])
    assert isinstance(table, nn.Embedding)
    counts = _Counts(described, table.num_embeddings, model.text_tower.backbone.pad_id)
    weights = torch.ones(len(targets), dtype=torch.float64)
    weights[len(pictures) :] = CLASS_WEIGHT
    held = np.zeros(len(targets), dtype=bool)
    held[: len(pictures)] = np.random.default_rng(seed).permutation(len(pictures)) % _HELD_OUT == 0
    known, asked = counts.rows_of(~held), counts.rows_of(held)
    gram, target = counts.normal_equations(known, targets, weights)
    scores = []
    for penalty in PENALTIES:
        found = counts.predict(asked, _solve(gram, target, penalty))
        place = np.cumsum(held) - 1
        ranks = text_to_image_ranks(
            _unit(targets[torch.from_numpy(held)]), _unit(found), place[counts.owner[asked]]
        )
        scores.append(summarise(ranks, int(held.sum())).mean_reciprocal_rank)
    penalty = PENALTIES[int(np.argmax(scores))]
    gram, target = counts.normal_equations(counts.rows_of(held | ~held), targets, weights)
    embeddings = _solve(gram, target, penalty) * counts.idf[:, None]

    linear.weight.copy_((components * scale).T)
    linear.bias.copy_(-(mean @ components) * scale)
    table.weight.zero_()
    # As the mean of a text's tokens, of about the length that the pictures have.
    table.weight[counts.ids] = (embeddings * scale * counts.mean_length).float()
    return penalty


_TABLES: dict[type[nn.Module], str] = {
    BagOfWordsBackbone: "tokens", TransformerBackbone: "words",
}  # fmt: skip


class _Counts:
    """TF-IDF counts of tokens (smoothed idf, rows of unit length) of all variants of captions.

    Args:
        described: captions of pictures, and of what else has captions, P in all; T = captions x
            variants rows.
        vocab_size: ids are below it.
        pad_id: an id that is no token.
    """

    def __init__(self, described: Sequence[Captions], vocab_size: int, pad_id: int) -> None:
        self._rows: list[npt.NDArray[np.int32]] = []
        owners, before = [], 0
        for captions in described:
            variants = captions.variants
            self._rows += [
                variant[number] for variant in variants for number in range(len(variant))
            ]
            per_caption = np.repeat(np.arange(len(captions)), np.diff(captions.starts))
            owners.append(before + np.tile(per_caption, len(variants)))
            before += len(captions)
        self.owner = np.concatenate(owners)
        """INT64 `[T]`: the picture of each row."""
        documents = np.zeros(vocab_size)
        for row in self._rows:
            documents[np.unique(row)] += 1
        documents[pad_id] = 0
        self.ids = np.flatnonzero(documents)
        """INT64 `[V]`: the tokens that occur."""
        self._column = np.full(vocab_size, -1)
        self._column[self.ids] = np.arange(len(self.ids))
        idf = np.log((1 + len(self._rows)) / (1 + documents[self.ids])) + 1
        self.idf = torch.from_numpy(idf)
        """FP64 `[V]`."""
        self.mean_length = float(np.mean([len(row) for row in self._rows[: len(owners[0])]]))
        """Of captions of pictures, in tokens."""

    def rows_of(self, pictures: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The rows of the pictures that BOOL `[P]` chooses."""
        return np.flatnonzero(pictures[self.owner])

    def normal_equations(
        self, rows: npt.NDArray[np.int64], targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """X'AX FP64 `[V, V]` and X'AY FP64 `[V, D]` of some rows; `[P, D]` and `[P]` are Y and A of
        each picture."""
        gram = torch.zeros(len(self.ids), len(self.ids), dtype=torch.float64)
        target = torch.zeros(len(self.ids), targets.shape[1], dtype=torch.float64)
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            owner = torch.from_numpy(self.owner[part])
            block = self._block(part)
            weighted = block * weights[owner, None]
            gram += weighted.T @ block
            target += weighted.T @ targets[owner]
        return gram, target

    def predict(self, rows: npt.NDArray[np.int64], weights: Tensor) -> Tensor:
        """FP64 `[rows, D]`."""
        parts = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
        return torch.cat([self._block(part) @ weights for part in parts])

    def _block(self, rows: npt.NDArray[np.int64]) -> Tensor:
        block = torch.zeros(len(rows), len(self.ids), dtype=torch.float64)
        for place, row in enumerate(rows):
            columns = self._column[self._rows[row]]
            kept = torch.from_numpy(columns[columns >= 0])
            block[place].index_add_(0, kept, torch.ones(len(kept), dtype=torch.float64))
        return nn.functional.normalize(block * self.idf, dim=1)


def _principal_components(pictures: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean FP64 `[W]` and components FP64 `[W, count]`, zeros where there are fewer."""
    mean = pictures.mean(dim=0)
    centred = pictures - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    components = torch.zeros(len(mean), count, dtype=torch.float64)
    there = min(count, len(mean), len(pictures) - 1)
    components[:, :there] = vectors.flip(1)[:, :there]
    return mean, components


def _solve(gram: Tensor, target: Tensor, penalty: float) -> Tensor:
    eye = torch.eye(len(gram), dtype=torch.float64)
    return torch.cholesky_solve(target, torch.linalg.cholesky(gram + penalty * eye))


def _unit(vectors: Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(nn.functional.normalize(vectors, dim=1).float().numpy())
