"""The sizes of towers that people run. Speed does not depend on weights, so these are random."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

DEMO = "demo"
"""The demo's own model, the only one with trained weights."""
SERVED = "phobert-base"
"""The pair whose text tower the figures of serving are about."""


@dataclass(frozen=True)
class Pair:
    """Two towers that are built together, as settings of the preset `vireo-base`."""

    name: str
    text: str | None
    """The name of the text tower; None where only the image tower is measured."""
    image: str | None
    settings: dict[str, Any] = field(default_factory=dict)

    def overrides(self) -> list[str]:
        """Return the settings as `KEY=VALUE`, with random weights and a tokenizer made here."""
        common = {
            "image.weights": None,
            "image.freeze": False,
            "image.unfreeze_after": None,
            "text.weights": None,
            "text.tokenizer": "bpe",
            # PhoBERT's 64,001 rows would be read no more often, and trained on nothing here.
            "text.vocab_size": 4000,
        }
        return [f"{key}={json.dumps(value)}" for key, value in {**common, **self.settings}.items()]


_NO_TEXT = {"text.kind": "bag-of-words", "text.width": 64, "text.layer_decay": 1.0}
_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}

PAIRS = (
    Pair(SERVED, "phobert-base", "vit-s/14"),
    Pair(
        "phobert-large",
        "phobert-large",
        "resnet-50",
        {f"text.architecture.{key}": value for key, value in _LARGE.items()}
        | {"image.name": "resnet50.a1_in1k", "image.layer_decay": 1.0},
    ),
    Pair(
        "swin-b",
        None,
        "swin-b",
        {**_NO_TEXT, "image.name": "swin_base_patch4_window7_224.ms_in22k_ft_in1k"},
    ),
    Pair(
        "vit-b-32",
        None,
        "vit-b/32",
        {**_NO_TEXT, "image.name": "vit_base_patch32_clip_224.laion2b_ft_in12k_in1k"},
    ),
    Pair(
        "efficientnet-b0",
        None,
        "efficientnet-b0",
        {**_NO_TEXT, "image.name": "efficientnet_b0.ra_in1k", "image.layer_decay": 1.0},
    ),
    Pair(
        "mobilenet",
        None,
        "mobilenet-v2",
        {**_NO_TEXT, "image.name": "mobilenetv2_100.ra_in1k", "image.layer_decay": 1.0},
    ),
)


def pair(name: str) -> Pair:
    """Return one pair.

    Raises:
        KeyError: there is none of this name.
    """
    return {found.name: found for found in PAIRS}[name]
