"""Turn tokenizers and text towers of open_clip into a bundle's text path and a text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from vireo_client.bundle import TextSpec
from vireo_client.errors import ExportError
from vireo_client.text.cleaning import OPEN_CLIP, RULES

from .foreign import buckets_up_to, without
from .huggingface_text import backend

_MASKED = -1e4
_VIETNAMESE = ("vie_Latn", "vi_VN")
"""Codes of Vietnamese in NLLB and mBART."""


@dataclass(frozen=True)
class TextInputs:
    """How texts become ids."""

    spec: TextSpec
    tokenizer: Tokenizer
    language: str | None
    """Code of Vietnamese for a tokenizer that needs a language, else None."""


class CausalTextEncoder(nn.Module):
    """A CLIP-like text transformer that runs at any length.

    open_clip's own `encode_text` takes texts of the full length only. Attention is causal, so the
    same layers give the same embedding for a shorter row.
    """

    mask: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        text: Any = getattr(model, "text", model)
        self.token_embedding, self.positions = text.token_embedding, text.positional_embedding
        self.transformer, self.ln_final = text.transformer, text.ln_final
        self.projection = text.text_projection
        self._pool = getattr(text, "text_pool_type", None) or text.pool_type
        self._end = text.text_eos_id if hasattr(text, "text_eos_id") else text.eos_id
        # FP16 engines cannot hold an infinite mask.
        self.register_buffer("mask", text.attn_mask.clamp(min=_MASKED), persistent=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        from open_clip.transformer import text_global_pool

        length = input_ids.shape[1]
        states = self.token_embedding(input_ids) + self.positions[:length]
        states = self.ln_final(self.transformer(states, attn_mask=self.mask[:length, :length]))
        pooled: Tensor = text_global_pool(states, input_ids, self._pool, eos_token_id=self._end)
        if self.projection is not None:
            linear = isinstance(self.projection, nn.Linear)
            pooled = self.projection(pooled) if linear else pooled @ self.projection
        return pooled


class _WholeTextEncoder(nn.Module):
    """Any other text tower, run by open_clip's own `encode_text`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = without(model, "visual")

    def forward(self, input_ids: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(input_ids)  # type: ignore[operator]
        return features


def text_encoder(model: nn.Module) -> tuple[nn.Module, bool]:
    """Return the text encoder, and whether its embeddings are independent of padding."""
    from open_clip.hf_model import HFTextEncoder

    text: Any = getattr(model, "text", model)
    if isinstance(text, HFTextEncoder):  # masks its padding
        return _WholeTextEncoder(model), True
    pool = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
    causal = getattr(text, "attn_mask", None) is not None and getattr(text, "cls_emb", None) is None
    if causal and pool in ("argmax", "eos", "first"):
        return CausalTextEncoder(model), True
    return _WholeTextEncoder(model), False


def text_inputs(name: str, model: nn.Module, tokenizer: Any, *, any_length: bool) -> TextInputs:
    """Read a model's tokenizer; one that needs a language is set to Vietnamese.

    Raises:
        ExportError: a bundle cannot express the tokenizer's behaviour.
    """
    from open_clip.tokenizer import SimpleTokenizer

    if getattr(tokenizer, "reduction_fn", None) or getattr(tokenizer, "strip_sep_token", False):
        raise _refusal(name, "drops tokens")
    if getattr(tokenizer, "tokenizer_mode", ""):
        raise _refusal(name, f"is in mode {tokenizer.tokenizer_mode!r}")
    language = None
    if isinstance(tokenizer, SimpleTokenizer):
        rust, pad_id = _from_simple(tokenizer), 0
    else:
        language = _set_vietnamese(name, tokenizer)
        rust, _ = backend(name, tokenizer.tokenizer)
        pad_id = tokenizer.tokenizer.pad_token_id
    rule = _cleaning(name, tokenizer)
    longest = tokenizer.context_length
    text: Any = getattr(model, "text", model)
    spec = TextSpec(
        normalization=rule,
        normalization_steps=RULES[rule].steps,
        segmenter="raw",
        pad_id=pad_id,
        vocab_size=min(rust.get_vocab_size(), text.vocab_size),
        buckets=buckets_up_to(longest) if any_length else (longest,),
        cut="token",
    )
    return TextInputs(spec, rust, language)


def _from_simple(tokenizer: Any) -> Tokenizer:
    """Convert open_clip's own byte-pair encoding, written in Python, to Rust."""
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    rust = Tokenizer(BPE(dict(tokenizer.encoder), merges, end_of_word_suffix="</w>"))
    # `tokenizer.pat` without its special tokens, which are matched before.
    words = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    rust.pre_tokenizer = Sequence(
        [
            Split(Regex(words), "removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    specials = {number: tokenizer.decoder[number] for number in tokenizer.all_special_ids}
    rust.add_special_tokens([AddedToken(t, normalized=False) for t in specials.values()])
    opening, closing = tokenizer.sot_token_id, tokenizer.eot_token_id
    rust.post_processor = TemplateProcessing(
        single=f"{specials[opening]} $A {specials[closing]}",
        special_tokens=[(specials[opening], opening), (specials[closing], closing)],
    )
    return rust


def _set_vietnamese(name: str, tokenizer: Any) -> str | None:
    if not hasattr(tokenizer, "set_lang_fn"):
        return None
    vocabulary = tokenizer.tokenizer.get_vocab()
    for code in _VIETNAMESE:
        if code in vocabulary:
            # open_clip's set_language lasts only until the next call, which reads src_lang again.
            tokenizer.tokenizer.src_lang = code
            return code
    raise _refusal(name, f"needs a language, but knows none of {', '.join(_VIETNAMESE)}")


def _cleaning(name: str, tokenizer: Any) -> str:
    from open_clip.tokenizer import SigLipTokenizer, get_clean_fn

    if isinstance(tokenizer, SigLipTokenizer):
        return OPEN_CLIP["canonicalize"]
    for theirs, ours in OPEN_CLIP.items():
        if tokenizer.clean_fn is get_clean_fn(theirs):
            return ours
    raise _refusal(name, "cleans texts by a rule of its own")


def _refusal(name: str, reason: str) -> ExportError:
    return ExportError(f"open_clip:{name}: its tokenizer {reason}; such models cannot be exported")
