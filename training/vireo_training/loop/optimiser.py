"""The learning rate and weight decay of each parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from ..config import ImageTowerConfig, TextTowerConfig, TrainConfig
from ..models.dual_encoder import DualEncoder
from ..models.tower import Tower


def parameter_groups(model: DualEncoder, config: TrainConfig) -> list[dict[str, Any]]:
    """Return the parameters to optimise, in groups of one rate and one weight decay.

    The towers' top layers learn at `lr_image` and `lr_text`, each layer below at `layer_decay`
    times the rate of the one above (Bao et al., 2022, BEiT, appendix); heads, logit scale and bias
    at `lr_head`. Norms, biases and scalars have no weight decay. A frozen tower is left out. One
    that is unfrozen later is in: until then it has no gradients, and optimisers pass over it.

    Returns:
        Dictionaries of "params", "lr" and "weight_decay", as `torch.optim` takes them.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for rate, parameter in _rates(model, config):
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _rates(model: DualEncoder, config: TrainConfig) -> Iterator[tuple[float, nn.Parameter]]:
    towers: list[tuple[Tower, float, float, bool]] = [
        (model.image_tower, config.lr_image, config.image.layer_decay, _trains(config.image)),
        (model.text_tower, config.lr_text, config.text.layer_decay, _trains(config.text)),
    ]
    for tower, rate, layer_decay, trains in towers:
        layers = tower.layers() if trains else []
        for below, layer in enumerate(reversed(layers)):
            yield from ((rate * layer_decay**below, parameter) for parameter in layer)
        yield from ((config.lr_head, parameter) for parameter in tower.head.parameters())
    if config.learn_temperature:
        yield config.lr_head, model.log_logit_scale
    if model.logit_bias is not None:
        yield config.lr_head, model.logit_bias


def _trains(tower: ImageTowerConfig | TextTowerConfig) -> bool:
    return not tower.freeze or tower.unfreeze_after is not None
