"""What a model that another library trained becomes: two towers and a bundle's folder."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from vireo_client.bundle import (
    TOKENIZER_FILE,
    Bundle,
    BundleConfig,
    ImageSpec,
    TextSpec,
    make_bundle_id,
    write_config,
)
from vireo_client.errors import ExportError

from .source import Source

Module = TypeVar("Module", bound=nn.Module)
SHORT_BUCKETS = (16, 32, 64)
"""Lengths below a model's longest one, for models that give the same vector at each."""


@dataclass(frozen=True)
class Parts:
    """What a library's loader found."""

    name: str
    """What the user asked for."""
    family: str
    image: ImageSpec
    text: TextSpec
    tokenizer: Tokenizer
    image_encoder: nn.Module
    """Normalised pixels FP32 `[N, 3, H, W]` to features FP32 `[N, D]`."""
    text_encoder: nn.Module
    """Ids INT64 `[N, L]` to features FP32 `[N, D]`."""
    provenance: dict[str, Any]


class ForeignImageTower(nn.Module):
    """Pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, spec: ImageSpec) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255, False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255, False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalises the pixels and runs the encoder."""
        return F.normalize(self.encoder((pixels.float() - self.mean) / self.std), dim=-1)


class ForeignTextTower(nn.Module):
    """Ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        """Runs the encoder on the ids alone."""
        return F.normalize(self.encoder(input_ids.long()), dim=-1)


def buckets_up_to(longest: int) -> tuple[int, ...]:
    """The lengths for a model whose vectors do not depend on how far a text is padded."""
    return (*(bucket for bucket in SHORT_BUCKETS if bucket < longest), longest)


def without(model: Module, *beginnings: str) -> Module:
    """The same model, sharing its weights, without the modules whose names begin so."""
    rest = copy.copy(model)
    rest._modules = {
        name: module for name, module in model._modules.items() if not name.startswith(beginnings)
    }
    return rest


def assemble(parts: Parts) -> Source:
    """Writes the bundle's folder, without weights, and gives it with the two towers.

    The folder lies among the system's temporary files and goes when nobody holds the source's
    bundle any more.

    Raises:
        ExportError: a tower does not run at the sizes that its own settings name, or the two do not
            give vectors of one size.
    """
    text_tower = ForeignTextTower(parts.text_encoder).eval().requires_grad_(False)
    image_tower = ForeignImageTower(parts.image_encoder, parts.image).eval().requires_grad_(False)
    dim = _embedding_dim(parts, text_tower, image_tower)
    folder = Path(tempfile.mkdtemp(prefix="vireo-source-"))
    try:
        parts.tokenizer.save(str(folder / TOKENIZER_FILE))
        settings = {"source": parts.name, "family": parts.family}
        described = [settings, parts.image.model_dump(), parts.text.model_dump()]
        bundle_id = make_bundle_id(
            folder / TOKENIZER_FILE,
            _weights_digest([text_tower, image_tower]),
            json.dumps(described[1:]).encode(),
        )
        write_config(
            folder,
            BundleConfig(
                bundle_id=bundle_id,
                embedding_dim=dim,
                image=parts.image,
                text=parts.text,
                model=settings,
                provenance=parts.provenance,
            ),
        )
        bundle = Bundle(folder)
    except BaseException:
        shutil.rmtree(folder)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return Source(bundle, text_tower, image_tower)


def _embedding_dim(parts: Parts, text_tower: nn.Module, image_tower: nn.Module) -> int:
    """Runs both towers once, at the longest length and at the picture's size."""
    ids = torch.full((1, parts.text.max_length), 1 if parts.text.pad_id == 0 else 0)
    pixels = torch.zeros((1, 3, parts.image.size, parts.image.size), dtype=torch.uint8)
    with torch.inference_mode():
        try:
            text, image = text_tower(ids).shape[-1], image_tower(pixels).shape[-1]
        except (IndexError, RuntimeError, ValueError) as error:
            raise ExportError(
                f"{parts.name}: does not run on texts of {parts.text.max_length} tokens and "
                f"pictures of {parts.image.size} x {parts.image.size}, as its own files ask "
                f"({first_line(error)}); check that its configuration files belong together"
            ) from error
    if text != image:
        raise ExportError(
            f"{parts.name}: texts become vectors of {text} numbers, pictures of {image}; "
            "they cannot be compared, name a dual encoder"
        )
    return int(text)


def _weights_digest(towers: Sequence[nn.Module]) -> bytes:
    """A hash of all parameters and buffers, whatever files they came from."""
    digest = hashlib.sha256()
    for tower in towers:
        for name, value in sorted(tower.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data
                          if value.ndim else value.detach().cpu().numpy().tobytes())  # fmt: skip
    return digest.digest()


def first_line(error: Exception) -> str:
    """An error's first line, or its kind."""
    return next(iter(str(error).splitlines()), type(error).__name__)
