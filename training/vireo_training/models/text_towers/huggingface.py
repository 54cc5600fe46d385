"""Any encoder of transformers, such as PhoBERT."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from vireo_client.errors import TrainingError, first_line

from ...config import TextTowerConfig
from ..hub import cannot_fetch, model_source
from ..torchvision_ops import ensure_torchvision
from .backbone import MASKED, TextBackbone, pool

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# Registered with transformers by `_attention`.
_ATTENTION = "sdpa_finite_mask"
_FROM_SCRATCH = (
    "give text.name=FOLDER, or train from scratch with "
    "--set text.weights=null --set text.tokenizer=bpe"
)
# Keys of a config that describe its file, not the model.
_NOT_ARCHITECTURE = ("_name_or_path", "transformers_version", "architectures", "dtype")


class HuggingFaceBackbone(TextBackbone):
    """An encoder of transformers over `input_ids` alone, with the pooling of `config`.

    The mask is derived inside; RoBERTa-like models derive positions from it as well.

    Args:
        config: its settings, `architecture` filled in (see `resolve_architecture`).
        vocab_size: the number of ids of the tokenizer.
        pad_id: the id that pads.
        load: load the pretrained weights of `config.name`, where the settings ask for them.

    Raises:
        TrainingError: the encoder cannot be built or loaded, or does not fit the tokenizer.
    """

    def __init__(
        self, config: TextTowerConfig, vocab_size: int, pad_id: int, *, load: bool
    ) -> None:
        assert config.pool != "last"  # the settings refuse it
        ensure_torchvision()  # transformers imports it
        architecture = _make_config(config.architecture)
        _check_tokenizer(architecture, vocab_size, pad_id)
        super().__init__(architecture.hidden_size, pad_id)
        self.pooling = config.pool
        if load and config.weights == "pretrained":
            self.model = _load(str(config.name), architecture)
        else:
            self.model = _build(architecture)
        if load:
            self._check_length(config.buckets[-1], architecture)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode INT32 or INT64 `[N, L]` to `[N, hidden_size]`."""
        input_ids = input_ids.long()  # some models' look-ups take no other
        tokens = input_ids != self.pad_id
        states = self.model(input_ids, attention_mask=tokens.long()).last_hidden_state
        return pool(states, tokens, self.pooling)

    def layers(self) -> Iterable[Iterable[nn.Parameter]]:
        return layers_of_stack(self)

    def checkpoint_gradients(self) -> None:
        if not self.model.supports_gradient_checkpointing:
            raise TrainingError(
                f"text tower {self.model.config.model_type!r}: transformers cannot compute its "
                "activations again; set text.checkpointing=false"
            )
        older: Callable[[dict[str, bool]], None] = self.model.gradient_checkpointing_enable
        enable = getattr(self.model, "activation_checkpointing_enable", older)
        enable({"use_reentrant": False})

    def _check_length(self, length: int, architecture: PreTrainedConfig) -> None:
        """Run the longest bucket once: models count their positions each in its own way."""
        ids = torch.full((1, length), 0 if self.pad_id else 1)
        training = self.training
        try:
            with torch.no_grad():
                self.eval()(ids)
        except (IndexError, RuntimeError) as error:
            rows = getattr(architecture, "max_position_embeddings", None)
            raise TrainingError(
                f"the longest bucket, {length} tokens, is more than the text encoder takes (its "
                f"position table has {rows} rows, of which some models use two for themselves); "
                "shorten text.buckets"
            ) from error
        self.train(training)


def layers_of_stack(module: nn.Module) -> Iterable[Iterable[nn.Parameter]]:
    """Return embeddings, then layers by index; modules after them join the last layer."""
    lists = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        return [module.parameters()]
    prefix, stack = max(lists, key=lambda entry: sum(p.numel() for p in entry[1].parameters()))
    layers: list[list[nn.Parameter]] = [[], *([] for _ in stack)]
    current = 0
    # Modules are registered in the order in which they run.
    for name, parameter in module.named_parameters():
        if name.startswith(f"{prefix}."):
            current = 1 + int(name[len(prefix) + 1 :].partition(".")[0])
        layers[current].append(parameter)
    return layers


def resolve_architecture(text: TextTowerConfig) -> TextTowerConfig:
    """Fill in `architecture` of a "huggingface" tower: that of its pretrained weights or `name`.

    Raises:
        TrainingError: the model's `config.json` cannot be fetched.
    """
    if text.kind != "huggingface" or (text.architecture and text.weights is None):
        return text
    ensure_torchvision()
    from transformers import AutoConfig

    source = model_source(str(text.name), advice=_FROM_SCRATCH)
    try:
        config = AutoConfig.from_pretrained(source)
    except Exception as error:  # transformers, the hub and the file system raise many kinds
        raise TrainingError(cannot_fetch(str(text.name), error, _FROM_SCRATCH)) from error
    return text.model_copy(update={"architecture": architecture_of(config)})


def architecture_of(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the settings of a model of transformers from which it can be built again."""
    settings: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    return {key: value for key, value in settings.items() if key not in _NOT_ARCHITECTURE}


def _make_config(architecture: dict[str, Any]) -> PreTrainedConfig:
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.for_model(**architecture)
    except Exception as error:  # a missing or unknown model_type, or a setting of a wrong type
        reason = first_line(error)
        raise TrainingError(
            f"text.architecture: not a model of transformers ({reason}); give what its "
            "config.json holds, model_type included"
        ) from error
    if config.is_encoder_decoder:
        raise TrainingError(
            f"text.architecture: {config.model_type!r} has a decoder; name an encoder"
        )
    return config


def _check_tokenizer(config: PreTrainedConfig, vocab_size: int, pad_id: int) -> None:
    if vocab_size > config.vocab_size:
        raise TrainingError(
            f"the tokenizer has {vocab_size} ids, the text encoder embeds {config.vocab_size}; "
            "give the tokenizer that belongs to it (text.tokenizer=pretrained)"
        )
    if config.pad_token_id is not None and config.pad_token_id != pad_id:
        raise TrainingError(
            f"the tokenizer pads with id {pad_id}, the text encoder with {config.pad_token_id}; "
            "give the tokenizer that belongs to it (text.tokenizer=pretrained)"
        )


def _build(config: PreTrainedConfig) -> PreTrainedModel:
    from transformers import AutoModel

    try:
        model: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config, **_options(config)
        )
    except Exception as error:  # each model refuses settings that do not fit in its own way
        reason = first_line(error)
        raise TrainingError(f"text.architecture: cannot be built ({reason})") from error
    return model


def _load(name: str, config: PreTrainedConfig) -> PreTrainedModel:
    from transformers import AutoModel

    source = model_source(name, advice=_FROM_SCRATCH)
    try:
        with _without_tables():
            model, report = AutoModel.from_pretrained(
                source,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                **_options(config),
            )
    except Exception as error:  # transformers, the hub and the file system raise many kinds
        raise TrainingError(cannot_fetch(name, error, _FROM_SCRATCH)) from error
    # transformers would start with random numbers in their place.
    missing = [key for key in sorted(report["missing_keys"]) if "pooler" not in key]
    if missing:
        raise TrainingError(
            f"{name}: its weights lack {len(missing)} tensors (first: {missing[0]}); "
            "name a model whose weights are whole"
        )
    loaded: PreTrainedModel = model
    return loaded


@contextmanager
def _without_tables() -> Iterator[None]:
    """Keep back transformers' table of tensors that the weights have or lack: `_load` looks itself.

    PhoBERT's weights hold the head of its pretraining, which an encoder does not need.
    """
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _options(config: PreTrainedConfig) -> dict[str, Any]:
    from transformers import MODEL_MAPPING

    kind: type[PreTrainedModel] = MODEL_MAPPING[type(config)]  # type: ignore[assignment]
    options: dict[str, Any] = {"attn_implementation": _attention(kind)}
    if "add_pooling_layer" in inspect.signature(kind).parameters:
        options["add_pooling_layer"] = False  # it would be trained by nothing
    return options


def _attention(kind: type[PreTrainedModel]) -> str:
    """Return the name of the attention to use: PyTorch's, with a mask that stays finite in FP16.

    Models that only have an attention of their own keep their own mask, which is finite in FP32.
    """
    if not kind._supports_attention_backend:
        return "eager"
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    def finite_mask(*, dtype: torch.dtype = torch.float32, **settings: Any) -> Tensor:
        settings["allow_is_bidirectional_skip"] = False
        allowed = sdpa_mask(**settings)
        assert allowed is not None
        return torch.where(allowed, 0.0, MASKED).to(dtype)

    AttentionInterface.register(_ATTENTION, sdpa_attention_forward)
    AttentionMaskInterface.register(_ATTENTION, finite_mask)
    return _ATTENTION
