"""Turn a tokenizer of transformers into a bundle's `TextSpec` and `tokenizer.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tokenizers import Tokenizer
from vireo_client.bundle import TextSpec
from vireo_client.errors import ExportError, first_line
from vireo_client.text.cleaning import NONE, RULES, SIGLIP

from .families import Family
from .foreign import buckets_up_to

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


_FILES = (
    "its files must lie beside the weights, and SentencePiece's need pip install 'vireo[sources]'"
)


@dataclass(frozen=True)
class TextInputs:
    """How texts become the model's inputs."""

    spec: TextSpec
    tokenizer: Tokenizer
    masked: bool
    """Whether the model takes a mask of the padding."""
    pad_ends: bool
    """Whether the padding id is also the id that ends a text."""


def text_inputs(name: str, source: str, config: PreTrainedConfig, family: Family) -> TextInputs:
    """Read a model's tokenizer.

    Raises:
        ExportError: there is no tokenizer, it has no padding token, or it cannot be written as a
            `tokenizer.json`.
    """
    slow = _load(name, source)
    if slow.pad_token_id is None:
        raise ExportError(f"{name}: its tokenizer has no padding token; set pad_token in its files")
    masked = not family.causal and "attention_mask" in slow.model_input_names
    settings = config.text_config
    rows = settings.max_position_embeddings - family.first_position
    longest = min(int(slow.model_max_length), rows, family.longest or rows)
    tokenizer, rule = backend(name, slow)
    ends_with_padding = slow.pad_token_id == slow.eos_token_id
    pad_side = _pad_side(name, slow, family)
    spec = TextSpec(
        normalization=rule,
        normalization_steps=RULES[rule].steps,
        segmenter="raw",
        pad_id=slow.pad_token_id,
        vocab_size=min(tokenizer.get_vocab_size(), settings.vocab_size),
        buckets=(longest,) if family.fixed_length else buckets_up_to(longest),
        cut="token",
        pad_side=pad_side,
        padding_is_free=masked
        and pad_side == "right"
        and not (family.fixed_length or ends_with_padding),
    )
    return TextInputs(spec, tokenizer, masked, ends_with_padding)


def backend(name: str, tokenizer: Any) -> tuple[Tokenizer, str]:
    """Return the Rust form of a tokenizer, and the name of the rule that cleans its texts.

    Raises:
        ExportError: the tokenizer exists in Python only.
    """
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(rust, Tokenizer):
        return Tokenizer.from_str(rust.to_str()), NONE
    if type(tokenizer).__name__ == "SiglipTokenizer" and tokenizer.do_lower_case:
        return _from_sentencepiece(tokenizer), SIGLIP
    raise ExportError(
        f"{name}: its tokenizer, {type(tokenizer).__name__}, has no tokenizer.json and cannot be "
        "converted to one; name a model with a tokenizer of the tokenizers library"
    )


def _from_sentencepiece(tokenizer: Any) -> Tokenizer:
    """Convert the tokenizer of the first SigLIP, which runs SentencePiece in Python, to Rust."""
    from tokenizers.processors import TemplateProcessing
    from transformers.convert_slow_tokenizer import SpmConverter

    end = tokenizer.eos_token

    class Converter(SpmConverter):
        def post_processor(self) -> TemplateProcessing:
            return TemplateProcessing(
                single=["$A", end], special_tokens=[(end, tokenizer.eos_token_id)]
            )

    converted: Tokenizer = Converter(tokenizer).converted()  # type: ignore[no-untyped-call]
    return converted


def _load(name: str, source: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # transformers, the hub and the file system raise many kinds
        raise ExportError(
            f"{name}: its tokenizer cannot be loaded ({first_line(error)}); {_FILES}"
        ) from error
    # Without files, transformers returns an empty tokenizer and no error.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ExportError(f"{name}: its tokenizer has no vocabulary; {_FILES}")
    return tokenizer


def _pad_side(name: str, tokenizer: Any, family: Family) -> Literal["right", "left"]:
    if tokenizer.padding_side == "right":
        return "right"
    if family.fixed_length:
        return "left"
    raise ExportError(
        f"{name}: its tokenizer pads on the left, which shifts the positions that its model sees; "
        "set padding_side to right in tokenizer_config.json"
    )
