"""What a caller asks with, as one unit vector a query: a text, an image, or both with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .errors import DataError

Embeddings = npt.NDArray[np.float32]

EVENLY = (0.5, 0.5)
"""The weights of a text and an image that count alike."""

_SHORTEST = 1e-3
"""A sum of two unit vectors below this length points nowhere: they say the opposite."""


def check_question(text: str | None, image: object | None, *, hybrid: bool = False) -> None:
    """Check that there is a text, an image, or both.

    Raises:
        DataError: there is neither, or no text whose words could be looked for.
    """
    if text is None and image is None:
        raise DataError("nothing to search for; give a text, an image, or both")
    if text is None and hybrid:
        raise DataError("hybrid: there are no words to look for; give a text")


def check_images(images: object) -> None:
    """Check that images are a list of them, and not one.

    Raises:
        DataError: it is a path, the bytes of a file, a Pillow image or the pixels of one.
    """
    if isinstance(images, (str, bytes, Path, Image.Image)) or getattr(images, "ndim", 4) == 3:
        raise DataError("expected a list of images, got one; put it in a list")


def read_weights(weights: Sequence[float]) -> tuple[float, float]:
    """Check the weights of a text and an image; only their ratio counts.

    Raises:
        DataError: they are not two finite numbers from 0, of which one at least is above 0.
    """
    try:
        of_text, of_image = map(float, weights)
    except (TypeError, ValueError):
        raise DataError(f"weights are {weights!r}; give two numbers: text, image") from None
    pair = (of_text, of_image)
    if not all(math.isfinite(weight) and weight >= 0 for weight in pair) or not any(pair):
        raise DataError(
            f"weights are {of_text:g} and {of_image:g}; give two numbers from 0, one of them above "
            "0: the text's, the image's"
        )
    return pair


def mix(texts: Embeddings, images: Embeddings, weights: Sequence[float] = EVENLY) -> Embeddings:
    """Mix text and image embeddings: the weighted sum of the unit vectors, at length 1.

    Args:
        texts: unit vectors FP32 `[N, D]`.
        images: unit vectors FP32 `[N, D]`.
        weights: of the text and of the image.

    Returns:
        Unit vectors FP32 `[N, D]`.

    Raises:
        DataError: the weights count nothing, or a sum has no direction.
    """
    of_text, of_image = read_weights(weights)
    total = of_text + of_image
    mixed = (of_text / total) * texts + (of_image / total) * images
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    if (lengths < _SHORTEST).any():
        raise DataError("text and image cancel each other out; give other weights")
    return np.asarray(mixed / lengths, dtype=np.float32)
