"""Open dual encoders of transformers, of the families in `families.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from vireo_client.errors import ExportError, TrainingError

from ..models.hub import cannot_fetch, model_source
from ..models.torchvision_ops import ensure_torchvision
from .families import FAMILIES
from .foreign import LoadedModel, assemble, without
from .huggingface_image import image_spec
from .huggingface_text import TextInputs, text_inputs
from .source import Source

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

PREFIX = "hf:"
_ADVICE = "give hf:FOLDER with a model that save_pretrained wrote, or download it first"


def open_huggingface(name: str) -> Source:
    """Load a dual encoder from the Hugging Face hub or from a local folder.

    Args:
        name: the hub's repository or the folder, without `hf:`.

    Raises:
        ExportError: the model cannot be loaded, is of another family, or its files do not match.
    """
    return load_huggingface(name).source


class Loaded(NamedTuple):
    """A model of transformers with what training needs of it beside its towers."""

    source: Source
    model: PreTrainedModel
    text: TextInputs


def load_huggingface(name: str) -> Loaded:
    """Load a dual encoder, as `open_huggingface` does, and keep the model itself."""
    ensure_torchvision()  # transformers imports it
    try:
        source = model_source(name, advice=_ADVICE)
    except TrainingError as error:
        raise ExportError(str(error)) from error
    config = _config(name, source)
    family = FAMILIES[config.model_type]
    model = _model(name, source)
    text = text_inputs(name, source, config, family)
    import transformers

    opened = assemble(
        LoadedModel(
            name=f"{PREFIX}{name}",
            family=config.model_type,
            image=image_spec(name, source),
            text=text.spec,
            tokenizer=text.tokenizer,
            image_encoder=HuggingFaceImageEncoder(model),
            text_encoder=HuggingFaceTextEncoder(
                model, text.spec.pad_id, masked=text.masked, pad_ends=text.pad_ends
            ),
            provenance={
                "source": f"{PREFIX}{name}",
                "revision": getattr(config, "_commit_hash", None),
                "transformers": transformers.__version__,
            },
        )
    )
    return Loaded(opened, model, text)


class HuggingFaceImageEncoder(nn.Module):
    """The image half of a dual encoder: normalised pixels to features."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = without(model, "text")

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode FP32 `[N, 3, H, W]` to FP32 `[N, D]`."""
        return _features(self.model.get_image_features(pixel_values=pixels))  # type: ignore[operator]


class HuggingFaceTextEncoder(nn.Module):
    """The text half of a dual encoder: ids to features.

    Args:
        model: the dual encoder.
        pad_id: the id that pads.
        masked, pad_ends: as `TextInputs` has them.
    """

    def __init__(
        self, model: PreTrainedModel, pad_id: int, *, masked: bool, pad_ends: bool
    ) -> None:
        super().__init__()
        self.model = without(model, "vision", "visual")
        self._pad_id, self._masked, self._pad_ends = pad_id, masked, pad_ends

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode INT64 `[N, L]` to FP32 `[N, D]`."""
        inputs = {"input_ids": input_ids}
        if self._masked:
            tokens = input_ids != self._pad_id
            if self._pad_ends:  # the first padding token marks the end of the text
                tokens = torch.cat([torch.ones_like(tokens[:, :1]), tokens[:, :-1]], dim=1)
            inputs["attention_mask"] = tokens.long()
        return _features(self.model.get_text_features(**inputs))  # type: ignore[operator]


def _features(output: Any) -> Tensor:
    """Return the features; since version 5 transformers wraps them in an object."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _config(name: str, source: str) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(source)
    except Exception as error:  # transformers, the hub and the file system raise many kinds
        raise ExportError(cannot_fetch(name, error, _ADVICE)) from error
    if config.model_type == "siglip2":
        raise ExportError(
            f"{name}: a SigLIP 2 model of flexible resolution (NaFlex), whose image size is "
            "not fixed; name one of a fixed resolution, such as google/siglip2-base-patch16-256"
        )
    if config.model_type not in FAMILIES:
        raise ExportError(
            f"{name}: is of family {config.model_type!r}, which cannot be exported; name a model "
            f"of one of these: {', '.join(FAMILIES)}"
        )
    return config


def _model(name: str, source: str) -> PreTrainedModel:
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # as above
        raise ExportError(cannot_fetch(name, error, _ADVICE)) from error
    # transformers fills missing tensors with random numbers.
    if missing := sorted(report["missing_keys"]):
        raise ExportError(
            f"{name}: its weights lack {len(missing)} tensors (first: {missing[0]}); "
            "name a model with complete weights"
        )
    loaded: PreTrainedModel = model.eval()
    return loaded
