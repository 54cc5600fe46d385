"""Open dual encoders of open_clip, by name and weights, from a folder or from the hub."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn
from vireo_client.bundle import ImageSpec
from vireo_client.errors import ExportError, MissingExtraError

from ..models.hub import cannot_fetch, offline
from ..models.torchvision_ops import ensure_torchvision
from .foreign import LoadedModel, assemble
from .open_clip_text import text_encoder, text_inputs
from .source import Source

if TYPE_CHECKING:
    from open_clip import CLIP, CustomTextCLIP

PREFIX = "open_clip:"
_ADVICE = (
    "give MODEL@FILE with a local file of weights, a folder with open_clip_config.json, or "
    "download the model first"
)


def open_open_clip(name: str) -> Source:
    """Load a model of open_clip.

    Args:
        name: `MODEL@WEIGHTS`, where WEIGHTS is one of open_clip's tags or a file; or open_clip's
            own `hf-hub:OWNER/NAME` or `local-dir:FOLDER`.

    Raises:
        MissingExtraError: open_clip is not installed.
        ExportError: there is no such model, its weights cannot be loaded, or a bundle cannot
            express its preprocessing.
    """
    ensure_torchvision()  # open_clip imports it
    try:
        import open_clip
    except ImportError:
        raise MissingExtraError("open_clip_torch", "sources") from None

    model_name, _, weights = name.partition("@")
    if not model_name.startswith(("hf-hub:", "local-dir:")):
        _check_names(model_name, weights)
    with _offline_if_requested(), _quiet():
        try:
            model = open_clip.create_model(
                model_name,
                pretrained=weights or None,
                pretrained_text=False,
                require_pretrained=True,
            ).eval()
            tokenizer = open_clip.get_tokenizer(model_name)
        except Exception as error:  # open_clip, the hub, torch and the file system raise many kinds
            raise ExportError(cannot_fetch(f"{PREFIX}{name}", error, _ADVICE)) from error
    encoder, any_length = text_encoder(model)
    text = text_inputs(name, model, tokenizer, any_length=any_length)
    return assemble(
        LoadedModel(
            name=f"{PREFIX}{name}",
            family="open_clip",
            image=_image_spec(name, open_clip.get_model_preprocess_cfg(model)),
            text=text.spec,
            tokenizer=text.tokenizer,
            image_encoder=_ImageEncoder(model),
            text_encoder=encoder,
            provenance={
                "source": f"{PREFIX}{name}",
                "open_clip": open_clip.__version__,
                **({"language": text.language} if text.language else {}),
            },
        )
    )


class _ImageEncoder(nn.Module):
    def __init__(self, model: CLIP | CustomTextCLIP) -> None:
        super().__init__()
        self.visual = model.visual

    def forward(self, pixels: Tensor) -> Tensor:
        features: Any = self.visual(pixels)
        # CoCa's also returns the tokens.
        vectors: Tensor = features[0] if isinstance(features, tuple) else features
        return vectors


def _check_names(model: str, weights: str) -> None:
    import open_clip

    if model not in open_clip.list_models():
        raise ExportError(
            f"{PREFIX}{model}: open_clip has no such model; "
            "open_clip.list_pretrained() names all models and weights"
        )
    tags = open_clip.list_pretrained_tags_by_model(model)
    if not weights:
        known = f"one of {', '.join(tags)}, or " if tags else ""
        raise ExportError(f"{PREFIX}{model}: name its weights after @: {known}a file")
    if not open_clip.is_pretrained_cfg(model, weights) and not Path(weights).is_file():
        known = f"its weights are {', '.join(tags)}; " if tags else ""
        raise ExportError(
            f"{PREFIX}{model}@{weights}: no such weights and no such file; {known}give one of "
            "them or a file"
        )


def _image_spec(name: str, settings: dict[str, Any]) -> ImageSpec:
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    fits: dict[str, Literal["shortest", "squash"]] = {"shortest": "shortest", "squash": "squash"}
    mode = settings["resize_mode"]
    if height != width or mode not in fits:
        raise ExportError(
            f"{PREFIX}{name}: takes images of {height} x {width}, resized by {mode!r}; only models "
            "with square images, resized by 'shortest' or 'squash', can be exported"
        )
    return ImageSpec(
        size=height,
        resize=height,
        fit=fits[mode],
        offset="round",
        interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )


@contextmanager
def _offline_if_requested() -> Iterator[None]:
    """Restrict the hub's library to its cache if downloads are forbidden."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or offline()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress open_clip's log messages; it raises errors as exceptions."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)
