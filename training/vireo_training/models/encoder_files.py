"""A bundle's encoders on file, without heads; and bundles from checkpoints of other projects."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vireo_client import __version__
from vireo_client.bundle import TOKENIZER_FILE, WEIGHTS_FILE, Bundle
from vireo_client.errors import BundleError, TrainingError, first_line
from vireo_client.files import replacing
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import load_segmenter

from ..config import TrainConfig
from .bundle_writer import load_model, save_weights, write_bundle
from .dual_encoder import DualEncoder
from .image_tower import ImageTower
from .resolve import image_spec, resolve
from .text_towers.huggingface import HuggingFaceBackbone
from .tokenizer import make_tokenizer

IMAGE_FILE = "image.safetensors"
TEXT_FOLDER = "text"


def save_encoders(bundle: Bundle, out: Path) -> list[str]:
    """Write a bundle's encoders to `out`, each alone; an earlier `out` is replaced.

    The image encoder is `image.safetensors`, by timm's names. A text encoder of transformers is the
    folder `text`, as `save_pretrained` writes it; one from scratch is its weights alone. Both come
    with the tokenizer.

    Returns:
        The settings that load them again, as `--set` takes them.

    Raises:
        BundleError: the bundle has no weights, or is of a model that was fine-tuned as a whole.
    """
    model = load_model(bundle)
    image, text = model.image_tower, model.text_tower.backbone
    if not isinstance(image, ImageTower):
        raise BundleError(
            f"{bundle.folder}: was fine-tuned from {bundle.config.model['source']['name']}, whose "
            "halves are one model; the bundle itself keeps them"
        )
    name = bundle.config.model["image"]["name"]
    settings = [f"image.name={name}", f"image.weights={out / IMAGE_FILE}"]
    with replacing(out, marker=IMAGE_FILE) as draft:
        save_weights(image.backbone.state_dict(), draft / IMAGE_FILE)
        folder = draft / TEXT_FOLDER
        folder.mkdir()
        shutil.copyfile(bundle.tokenizer_file, folder / TOKENIZER_FILE)
        if isinstance(text, HuggingFaceBackbone):
            text.model.save_pretrained(folder)
            settings += ["text.kind=huggingface", f"text.name={out / TEXT_FOLDER}",
                         "text.weights=pretrained", "text.tokenizer=pretrained"]  # fmt: skip
        else:
            save_weights(text.state_dict(), folder / WEIGHTS_FILE)
            settings.append(f"text.tokenizer={out / TEXT_FOLDER}")
    return settings


def import_checkpoint(file: Path, config: TrainConfig, out: Path) -> Path:
    """Write a bundle from weights of PhoCLIP or End-to-End Image Retrieval with Vietnamese.

    Both save the state of one model (`best.pt`): a timm model, an encoder of transformers, and the
    two heads of `ResidualHead`. They squash photos to 224 x 224 and normalise them by ImageNet's
    statistics, and so does the bundle. Its embeddings have unit length, which theirs have not.

    Args:
        file: the checkpoint.
        config: a preset of the same two encoders, such as `phobert-dinov2-base`.
        out: the bundle's folder.

    Raises:
        TrainingError: the file cannot be read, its tensors do not fit `config`, or the tokenizer
            cannot be had.
    """
    image = config.image.model_copy(
        update={"fit": "squash", "size": 224, "resize": 224, "interpolation": "bilinear",
                "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "weights": None,
                "freeze": False}
    )  # fmt: skip
    config = resolve(config.model_copy(update={"image": image}))
    tokenizer = make_tokenizer(config.text, [])
    model = DualEncoder(config, tokenizer.vocab_size, tokenizer.pad_id, load=False)
    state = _renamed(_read(file))
    wanted = model.state_dict()
    state["log_logit_scale"] = wanted["log_logit_scale"]
    missing = sorted(set(wanted) - set(state))
    misfits = [k for k in wanted if k in state and wanted[k].shape != state[k].shape]
    if missing or misfits:
        raise TrainingError(
            f"{file}: does not fit {config.image.name} with {config.text.name} ({len(missing)} "
            f"tensors missing, {len(misfits)} of another shape; first: {(missing + misfits)[0]}); "
            "give the preset of its two encoders, or image.name and text.name by --set"
        )
    model.load_state_dict({name: state[name] for name in wanted})
    return write_bundle(
        out, model, config, TextPath(load_segmenter(config.text.segmenter), tokenizer),
        image_spec(config.image), metrics={},
        provenance={"vireo": __version__, "imported": file.name},
    )  # fmt: skip


def _read(file: Path) -> dict[str, Tensor]:
    try:
        state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise many kinds
        raise TrainingError(f"{file}: cannot be read ({first_line(error)})") from error
    if not (isinstance(state, dict) and any(k.startswith("image_encoder.model.") for k in state)):
        raise TrainingError(
            f"{file}: of an unknown layout; known is best.pt of PhoCLIP and of End-to-End Image "
            "Retrieval with Vietnamese, whose tensors begin with image_encoder.model"
        )
    return state


_NAMES = (
    (r"image_encoder\.model\.", "image_tower.backbone."),
    (r"text_encoder\.model\.", "text_tower.backbone.model."),
    (r"(image|text)_projection\.projection\.", r"\1_tower.head.input."),
    (r"(image|text)_projection\.fc\.", r"\1_tower.head.hidden."),
    (r"(image|text)_projection\.layer_norm\.", r"\1_tower.head.norm."),
)


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        for pattern, ours in _NAMES:
            name = re.sub(f"^{pattern}", ours, name)
        renamed[name] = value
    return renamed
