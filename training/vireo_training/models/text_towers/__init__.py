"""The text tower: `input_ids` to a unit vector, by one of four backbones."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from ...config import TextTowerConfig
from ..heads import make_head
from ..tower import Tower
from .backbone import TextBackbone
from .bag_of_words import BagOfWordsBackbone
from .huggingface import HuggingFaceBackbone
from .lstm import LstmBackbone
from .transformer import TransformerBackbone


class TextTower(Tower):
    """A text backbone and its head over `input_ids` alone.

    Takes INT32 or INT64 `[N, L]`, padded on the right with `pad_id`; how far does not matter.

    Args:
        config: its settings; those of a "huggingface" tower resolved (see `resolve`).
        vocab_size: the number of ids of the tokenizer.
        pad_id: the id that pads.
        embedding_dim: D.
        load: load the pretrained weights that `config` names, or leave them random because others
            follow.

    Raises:
        TrainingError: the encoder cannot be built or loaded, or does not fit the tokenizer.
    """

    backbone: TextBackbone

    def __init__(
        self,
        config: TextTowerConfig,
        vocab_size: int,
        pad_id: int,
        embedding_dim: int,
        *,
        load: bool,
    ) -> None:
        backbone = _make_backbone(config, vocab_size, pad_id, load=load)
        if config.checkpointing:
            backbone.checkpoint_gradients()
        head = make_head(config.head, backbone.width, embedding_dim)
        super().__init__(backbone, head, frozen=config.freeze)

    def _encode(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.backbone(inputs)
        return features

    def _backbone_layers(self) -> Iterable[Iterable[nn.Parameter]]:
        return self.backbone.layers()


def _make_backbone(
    config: TextTowerConfig, vocab_size: int, pad_id: int, *, load: bool
) -> TextBackbone:
    if config.kind == "huggingface":
        return HuggingFaceBackbone(config, vocab_size, pad_id, load=load)
    kinds: dict[str, Callable[[TextTowerConfig, int, int], TextBackbone]] = {
        "transformer": TransformerBackbone,
        "lstm": LstmBackbone,
        "bag-of-words": BagOfWordsBackbone,
    }
    return kinds[config.kind](config, vocab_size, pad_id)
