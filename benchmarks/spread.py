"""Make vectors that are spread as a tower's embeddings of photos are, as many as wanted.

Uniform noise in 512 dimensions is no benchmark: all its vectors are equally far apart, and no
search structure can help. Embeddings of photos lie close to a few hundred directions, share a large
mean, and come in clusters. `fit_spread.py` measures how much, on MobileNetV2's embeddings
(pretrained on ImageNet) of the 627 photos of `photos_vi`, eight random crops of each: the mean, and
along each of the 512 main directions the variance between topics (24 k-means cells of the photos),
between the photos of a topic, and between the crops of a photo.

`draw` puts the parts together again: a vector is the mean, plus a topic, plus a photo, plus a view,
normal with the measured variances, turned by a random rotation (a tower's axes are no main
directions) and scaled to unit length. Topics are as many as the square root of the number of
vectors, large and small (sizes fall as 1 / rank); two views in the mean belong to one photo, as in
a folder of real photos. Some are ordinary and some odd: the length of each photo's and view's
part varies (log-normal, sigma 0.25). That one number was chosen by comparison: 627 drawn vectors
and the 627 photos then have the same cosines to the 1st, 10th and 100th neighbour (median 0.67,
0.61, 0.52 against 0.66, 0.60, 0.50) and the same local intrinsic dimension (29.6; without it, 38).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from support import RESULTS

FILE = RESULTS / "spread.json"
TOPICS = 24
DIM = 512
ODD = 0.25
BLOCK = 50_000

Array = npt.NDArray[np.float32]


class Spread(NamedTuple):
    """The mean, and the standard deviations of the three parts, each FP32 `[512]`."""

    mean: Array
    topic: Array
    photo: Array
    view: Array

    @classmethod
    def load(cls) -> Spread:
        """Read the fit that is committed beside the results."""
        saved = json.loads(FILE.read_text())
        return cls(*(np.array(saved[name], dtype=np.float32) for name in cls._fields))

    def blocks(self, rows: int, seed: int = 0) -> Iterator[Array]:
        """Yield `rows` unit vectors in blocks FP32 `[N, 512]`; each block depends on `seed` alone.

        The topics and the rotation come from `rows`, so that two seeds draw from one distribution:
        one for the index, one for queries that are not in it.
        """
        fixed = np.random.default_rng(rows)
        topics = fixed.standard_normal((max(TOPICS, int(rows**0.5)), DIM), np.float32) * self.topic
        size = 1 / np.arange(1, len(topics) + 1)
        rotation = np.linalg.qr(fixed.standard_normal((DIM, DIM)))[0].astype(np.float32)
        rng = np.random.default_rng([seed, rows])
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            photos = _parts(self.photo, count // 2 + 1, rng)
            photos += self.mean + topics[rng.choice(len(topics), len(photos), p=size / size.sum())]
            block = photos[rng.integers(len(photos), size=count)]
            block += _parts(self.view, count, rng)
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            yield block @ rotation

    def queries(self, rows: int, count: int) -> Array:
        """Return `count` queries that fit an index of `rows` drawn vectors but are not in it."""
        return next(self.blocks(rows, seed=1))[:count]


def _parts(deviation: Array, count: int, rng: np.random.Generator) -> Array:
    """Draw normal vectors whose lengths vary; their mean square is that of `deviation`."""
    length = np.exp(ODD * rng.standard_normal((count, 1), np.float32) - ODD**2)
    return length * deviation * rng.standard_normal((count, DIM), np.float32)


def draw(rows: int, path: Path) -> npt.NDArray[np.float32]:
    """Write `rows` vectors to `path` (npy), unless it is there, and open it memory-mapped."""
    if not path.is_file():
        unfinished = path.with_suffix(".part")
        file = np.lib.format.open_memmap(unfinished, "w+", np.float32, (rows, DIM))
        start = 0
        for block in Spread.load().blocks(rows):
            file[start : start + len(block)] = block
            start += len(block)
        file.flush()
        unfinished.replace(path)
    return np.load(path, mmap_mode="r")
