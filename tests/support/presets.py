"""Presets cut down to what a test can afford: the same kinds of towers, tiny."""

from __future__ import annotations

import json

from vireo_training.presets import load_config, preset_names

# By the beginning of a preset's image tower: a tiny one of its family, its settings and its size.
_IMAGE: dict[str, tuple[str, dict[str, object], int]] = {
    "resnet": ("test_resnet", {}, 64),
    "test_resnet": ("test_resnet", {}, 64),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2},
        64,
    ),
    "convnextv2": (
        "convnextv2_atto",
        {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
        64,
    ),
    "vit_small_patch14_reg4": (
        "vit_small_patch14_reg4_dinov2",
        {"embed_dim": 16, "depth": 2, "num_heads": 2},
        56,
    ),
    "vit_small_patch14_dinov2": (
        "vit_small_patch14_dinov2",
        {"embed_dim": 16, "depth": 2, "num_heads": 2},
        56,
    ),
    "vit_base_patch14_dinov2": (
        "vit_small_patch14_dinov2",
        {"embed_dim": 16, "depth": 2, "num_heads": 2},
        56,
    ),
    "efficientnet": ("test_efficientnet", {}, 64),
    "mambaout": ("test_mambaout", {}, 64),
    "mobilenetv2": ("test_efficientnet", {}, 64),  # one code in timm
}
ROBERTA = {
    "model_type": "roberta",
    "vocab_size": 400,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 34,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}


def kinds_of_presets() -> list[str]:
    """Return the presets that are still different when they are tiny: no larger ones of a pair."""
    larger = [name for name in preset_names() if name.startswith("phobert-")]
    return [n for n in preset_names() if not (n in larger and n.endswith("-base"))]


def from_scratch(preset: str) -> list[str]:
    """Overrides that build a preset at its own size without pretrained weights."""
    weights = "image.weights=x"  # some presets leave it to whoever trains
    overrides = ["image.weights=null", "warm_start=false"]
    for tower in ("image", "text"):
        overrides += [f"{tower}.freeze=false", f"{tower}.unfreeze_after=null"]
    if load_config(preset, [weights]).text.weights is not None:
        overrides += ["text.weights=null", "text.tokenizer=bpe"]
    return overrides


def shrink(preset: str) -> list[str]:
    """Overrides that make a preset tiny, from scratch: a 400-id vocabulary at most, 32 tokens."""
    config = load_config(preset, ["image.weights=x"])
    family = next(name for name in _IMAGE if config.image.name.startswith(name))
    name, kwargs, size = _IMAGE[family]
    image = {"name": name, "kwargs": kwargs, "size": size, "resize": size}
    text: dict[str, object] = {"vocab_size": 400, "buckets": [8, 16, 32], "segmenter": "none"}
    if config.text.kind == "huggingface":
        text["architecture"] = ROBERTA
    else:
        text |= {"width": 16, "heads": 2, "layers": min(2, config.text.layers)}
        text["hidden"] = 12 if config.text.hidden else None
    for tower, settings in (("image", image), ("text", text)):
        head = getattr(config, tower).head
        settings["head"] = {**head.model_dump(), "hidden": 20 if head.hidden else None}
    settings = {f"image.{key}": value for key, value in image.items()}
    settings |= {f"text.{key}": value for key, value in text.items()}
    settings |= {"embedding_dim": 16, "batch_size": 4}
    return from_scratch(preset) + [f"{key}={json.dumps(value)}" for key, value in settings.items()]
