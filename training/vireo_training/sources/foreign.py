"""Turn a model that another library trained into two towers and a bundle's folder."""

from __future__ import annotations

import copy
import hashlib
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
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
from vireo_client.errors import ExportError, first_line
from vireo_client.held import temporary_folder

from .source import Source

Module = TypeVar("Module", bound=nn.Module)
SHORT_BUCKETS = (16, 32, 64)
"""Buckets below the longest one, for models whose embedding does not depend on padding."""


@dataclass(frozen=True)
class LoadedModel:
    """A model as its library's loader returns it."""

    name: str
    """Name that the user gave."""
    family: str
    image: ImageSpec
    text: TextSpec
    tokenizer: Tokenizer
    image_encoder: nn.Module
    """Maps normalised pixels FP32 `[N, 3, H, W]` to features FP32 `[N, D]`."""
    text_encoder: nn.Module
    """Maps ids INT64 `[N, L]` to features FP32 `[N, D]`."""
    provenance: dict[str, Any]


class ForeignImageTower(nn.Module):
    """Map pixels UINT8 `[N, 3, H, W]` to unit vectors FP32 `[N, D]`."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, spec: ImageSpec) -> None:
        super().__init__()
        self.encoder = encoder
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255, False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255, False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise the pixels and run the encoder."""
        return F.normalize(self.encoder((pixels.float() - self.mean) / self.std), dim=-1)


class ForeignTextTower(nn.Module):
    """Map ids INT32 `[N, L]` to unit vectors FP32 `[N, D]`."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor) -> Tensor:
        """Run the encoder; ids are its only input."""
        return F.normalize(self.encoder(input_ids.long()), dim=-1)


def buckets_up_to(longest: int) -> tuple[int, ...]:
    """Return the buckets of a model whose embedding does not depend on padding."""
    return (*(bucket for bucket in SHORT_BUCKETS if bucket < longest), longest)


def without(model: Module, *prefixes: str) -> Module:
    """Return a copy that shares the weights and lacks the modules with these name prefixes."""
    rest = copy.copy(model)
    rest._modules = {
        name: module for name, module in model._modules.items() if not name.startswith(prefixes)
    }
    return rest


def assemble(model: LoadedModel) -> Source:
    """Build the two towers and write the bundle's folder, without weights.

    The folder is temporary. It is removed when the source's bundle is garbage-collected; if the
    process is killed before, the next one removes it.

    Raises:
        ExportError: a tower does not run at the sizes in its own settings, or the towers' embedding
            sizes differ.
    """
    text_tower = ForeignTextTower(model.text_encoder).eval().requires_grad_(False)
    image_tower = ForeignImageTower(model.image_encoder, model.image).eval().requires_grad_(False)
    dim = _embedding_dim(model, text_tower, image_tower)
    held = temporary_folder("vireo-source-")
    folder = held.path
    try:
        model.tokenizer.save(str(folder / TOKENIZER_FILE))
        settings = {"source": model.name, "family": model.family}
        specs = [model.image.model_dump(), model.text.model_dump(exclude={"padding_is_free"})]
        bundle_id = make_bundle_id(
            folder / TOKENIZER_FILE,
            _weights_digest([text_tower, image_tower]),
            json.dumps(specs).encode(),
        )
        write_config(
            folder,
            BundleConfig(
                bundle_id=bundle_id,
                embedding_dim=dim,
                image=model.image,
                text=model.text,
                model=settings,
                provenance=model.provenance,
            ),
        )
        bundle = Bundle(folder)
    except BaseException:
        held.close()
        raise
    weakref.finalize(bundle, held.close)
    return Source(bundle, text_tower, image_tower)


def _embedding_dim(model: LoadedModel, text_tower: nn.Module, image_tower: nn.Module) -> int:
    """Run both towers once at their largest input sizes; return the embedding size."""
    ids = torch.full((1, model.text.max_length), 1 if model.text.pad_id == 0 else 0)
    pixels = torch.zeros((1, 3, model.image.size, model.image.size), dtype=torch.uint8)
    with torch.inference_mode():
        try:
            text, image = text_tower(ids).shape[-1], image_tower(pixels).shape[-1]
        except (IndexError, RuntimeError, ValueError) as error:
            raise ExportError(
                f"{model.name}: does not run on texts of {model.text.max_length} tokens and "
                f"images of {model.image.size} x {model.image.size}, the sizes in its own files "
                f"({first_line(error)}); check that its configuration files belong together"
            ) from error
    if text != image:
        raise ExportError(
            f"{model.name}: the text embedding has {text} numbers and the image embedding {image}; "
            "such embeddings cannot be compared, name a dual encoder"
        )
    return int(text)


def _weights_digest(towers: Sequence[nn.Module]) -> bytes:
    """Return a hash of all parameters and buffers, which does not depend on file formats."""
    digest = hashlib.sha256()
    for tower in towers:
        for name, value in sorted(tower.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data
                          if value.ndim else value.detach().cpu().numpy().tobytes())  # fmt: skip
    return digest.digest()
