"""Batches of decoded images and token ids; any step of any epoch can be made by itself.

The content of a batch follows from (seed, epoch, step) alone. So threads can make batches ahead, a
resumed run goes on with the very batch that was next, and every device knows the captions of the
whole batch without communication.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from vireo_client.text.tokenize import pad_ids

from ..config import TextAugmentation
from .captions import Captions
from .text_augment import draw

_AHEAD = 3


class Batch(NamedTuple):
    """One device's part of a batch, and owners and texts of all captions in the whole batch."""

    chunks: list[tuple[Tensor, ...]]
    """Tensors to compute at once; more than one chunk only where gradients are cached. Each: images
    UINT8 `[B, 3, side, side]` or features FP32 `[B, W]`; then captions INT32 `[T, L]`, padded to
    the longest, the short ones apart from the long ones where that spares much padding."""
    owner: Tensor
    """INT64 `[T of all devices and chunks]`: the row of each caption's image in the whole batch,
    or, from the number of its images on, a number for each group of captions without an image."""
    texts: Tensor
    """INT64 `[T of all devices and chunks]`: captions with equal texts have equal numbers."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        chunks = [
            tuple(part.to(device, non_blocking=True) for part in chunk) for chunk in self.chunks
        ]
        return Batch(chunks, self.owner.to(device), self.texts.to(device))


def plan_epoch(order: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Divide an epoch's draw of images into batches of `size` without duplicates.

    An image that is drawn again waits for the next batch. Where so few images are drawn so often
    that a batch would stay short, those that were not drawn fill it. There is no short last batch:
    the images left over wait for another epoch's order.

    Args:
        order: INT64 `[N]`, of N images, each drawn never, once or more often.
        size: at most N.

    Returns:
        N // `size` batches, INT64 `[size]`: every epoch has as many.
    """
    undrawn = np.setdiff1d(np.arange(len(order)), order)
    if not len(undrawn):
        return list(order[: len(order) // size * size].reshape(-1, size))
    batches: list[npt.NDArray[np.int64]] = []
    waiting: deque[int] = deque()
    rest = iter([*order.tolist(), *undrawn.tolist()])
    while len(batches) < len(order) // size:
        batch: dict[int, None] = {}
        again: deque[int] = deque()
        while len(batch) < size:
            number = waiting.popleft() if waiting else next(rest)
            if number in batch:
                again.append(number)
            else:
                batch[number] = None
        waiting = again + waiting
        batches.append(np.fromiter(batch, dtype=np.int64, count=size))
    return batches


class _Drawn(NamedTuple):
    """A caption drawn for a batch."""

    ids: npt.NDArray[np.int32]
    text: int


@dataclass(frozen=True)
class BatchMaker:
    """Makes a batch from the row numbers of its images.

    Args:
        images: decoded images UINT8 `[N, 3, side, side]`, or the features of a frozen tower,
            FP32 `[N, views, W]`.
        captions: of those images.
        others: groups of captions without an image; as many groups as images come along.
        captions_per_picture: the number of captions to draw for each image.
        chunk: images to compute at once.
        pad_id: the id that pads rows of ids.
        text_augment: the rates at which variants of captions are drawn.
        augment: turns pixels into training views.
        seed: the seed of all draws.
        devices, device: their number, and which of them this one is.
    """

    images: npt.NDArray[Any]
    captions: Captions
    others: Captions | None
    captions_per_picture: int
    chunk: int
    pad_id: int
    text_augment: TextAugmentation
    augment: Callable[[Tensor, np.random.Generator], Tensor]
    seed: int
    devices: int = 1
    device: int = 0
    length: int | None = None
    """The length to pad all ids to, for a model whose answer depends on it; else the longest's."""
    pad_side: Literal["right", "left"] = "right"

    def __call__(self, epoch: int, step: int, rows: npt.NDArray[np.int64]) -> Batch:
        # Drawn for the whole batch, so that the number of devices changes nothing of its content.
        rng = np.random.default_rng((self.seed, 1, epoch, step))
        described = self._draw(rng, self.captions, rows, self.captions_per_picture)
        others: list[list[_Drawn]] = []
        if self.others is not None:
            count = min(len(rows), len(self.others))
            groups = rng.choice(len(self.others), count, replace=False)
            others = self._draw(rng, self.others, groups, 2)

        chunks, owner, numbers = [], [], []
        extras = np.array_split(np.arange(len(others)), self.devices)
        for device, places in enumerate(np.split(np.arange(len(rows)), self.devices)):
            # Chunks as equal as possible: batch norm cannot take statistics of a single image.
            count = -(-len(places) // self.chunk)
            pairs = zip(
                np.array_split(places, count), np.array_split(extras[device], count), strict=True
            )
            for number, (part, extra) in enumerate(pairs):
                texts = [(drawn, int(place)) for place in part for drawn in described[place]]
                texts += [
                    (drawn, len(rows) + int(place)) for place in extra for drawn in others[place]
                ]
                texts.sort(key=lambda text: len(text[0].ids))
                owner += [place for _, place in texts]
                numbers += [drawn.text for drawn, _ in texts]
                if device == self.device:
                    own = np.random.default_rng((self.seed, 2, epoch, step, device, number))
                    ids = [drawn.ids for drawn, _ in texts]
                    cut = short_rows([len(row) for row in ids])
                    padded = [self._pad(part) for part in (ids[:cut], ids[cut:]) if part]
                    chunks.append((self._images(rows[part], own), *padded))
        return Batch(chunks, torch.tensor(owner), torch.tensor(numbers))

    def _draw(
        self, rng: np.random.Generator, captions: Captions, rows: npt.NDArray[np.int64], most: int
    ) -> list[list[_Drawn]]:
        """Return the captions drawn for each of `rows`, at most `most` for each."""
        chosen = []
        for row in rows:
            start, end = captions.starts[row : row + 2]
            chosen.append(start + rng.choice(end - start, min(most, end - start), replace=False))
        variants = iter(draw(self.text_augment, rng, sum(map(len, chosen))))
        return [
            [_Drawn(captions.variants[next(variants)][c], int(captions.texts[c])) for c in picked]
            for picked in chosen
        ]

    def _images(self, rows: npt.NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        if self.images.dtype == np.uint8:
            return self.augment(torch.from_numpy(np.ascontiguousarray(self.images[rows])), rng)
        view = rng.integers(self.images.shape[1], size=len(rows))
        return torch.from_numpy(self.images[rows, view])

    def _pad(self, ids: list[npt.NDArray[np.int32]]) -> Tensor:
        length = self.length or max(map(len, ids))
        return torch.from_numpy(pad_ids(ids, length, self.pad_id, self.pad_side))


def short_rows(lengths: Sequence[int]) -> int:
    """Return how many of ascending lengths to pad apart from the rest, for the least padding.

    Two passes through a tower cost more than one, so this is 0 where they would not save a quarter.
    """
    ascending = np.asarray(lengths)
    count = np.arange(len(ascending))
    sizes = count * np.concatenate([[0], ascending[:-1]]) + (len(ascending) - count) * ascending[-1]
    best = int(sizes.argmin())
    return best if sizes[best] <= 0.75 * sizes[0] else 0


def batches_ahead(
    make: BatchMaker, epoch: int, plan: Sequence[npt.NDArray[np.int64]], first: int = 0
) -> Iterator[Batch]:
    """Yield the batches of an epoch from step `first` on, while threads make the next ones."""
    # One thread for each operator: two teams of threads on the same cores wait for each other.
    with ThreadPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = deque(
            pool.submit(make, epoch, step, plan[step])
            for step in range(first, min(first + _AHEAD, len(plan)))
        )
        try:
            for step in range(first + _AHEAD, len(plan) + _AHEAD):
                if not waiting:
                    return
                batch = waiting.popleft().result()
                if step < len(plan):
                    waiting.append(pool.submit(make, epoch, step, plan[step]))
                yield batch
        finally:
            for future in waiting:
                future.cancel()
