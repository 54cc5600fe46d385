"""The features of a frozen image tower, computed once for each image and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from vireo_client.files import replacing_file
from vireo_client.progress import track

from ..config import TrainConfig
from ..models.tower import Tower

_BLOCK = 32


def features_key(
    tower: Tower, config: TrainConfig, pixels: npt.NDArray[np.uint8], views: int
) -> str:
    """Return a name for features by all that they depend on: weights, settings, views and images.

    The images are hashed as decoded: their files may have changed since.
    """
    digest = hashlib.sha256()
    for name, value in sorted(tower.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    settings = config.model_dump(
        mode="json",
        include={
            "augment": True,
            "image": {
                "name",
                "kwargs",
                "pool",
                "size",
                "resize",
                "fit",
                "interpolation",
                "mean",
                "std",
            },
        },
    )
    digest.update(json.dumps([settings, views, config.seed, pixels.shape]).encode())
    for start in range(0, len(pixels), _BLOCK):
        digest.update(np.ascontiguousarray(pixels[start : start + _BLOCK]).data)
    return digest.hexdigest()[:16]


@torch.inference_mode()
def frozen_features(
    tower: Tower,
    pixels: npt.NDArray[np.uint8],
    augment: Callable[[Tensor, np.random.Generator], Tensor],
    *,
    views: int,
    seed: int,
    path: Path,
    label: str,
) -> npt.NDArray[np.float32]:
    """Return the backbone's features of `views` augmented views of each image.

    Args:
        pixels: UINT8 `[N, 3, side, side]`.
        path: the `.npy` file that keeps them; where it exists, it is read and nothing is computed.

    Returns:
        FP32 `[N, views, W]`, memory-mapped.
    """
    if not path.is_file():
        device = next(tower.parameters()).device
        tower.eval()
        blocks = []
        for start in track(range(0, len(pixels), _BLOCK), label):
            block = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _BLOCK]))
            rng = np.random.default_rng((seed, 2, start))
            seen = [tower.features(augment(block, rng).to(device)).float() for _ in range(views)]
            blocks.append(torch.stack(seen, 1).cpu().numpy())
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_file(path) as file:  # a file that is there is whole
            np.save(file, np.concatenate(blocks))
    features: npt.NDArray[np.float32] = np.load(path, mmap_mode="r")
    return features
