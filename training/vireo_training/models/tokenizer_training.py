"""Small tokenizers trained from segmented captions, for the small text towers.

Both put `<s>` and `</s>` around a text, split words at blanks only (the segmenter has separated
words and punctuation already) and have PhoBERT's special ids: 0 `<s>`, 1 `<pad>`, 2 `</s>`,
3 `<unk>`; 4 is `<mask>`.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Metaspace, PreTokenizer, Sequence, WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer, WordLevelTrainer
from vireo_client.errors import TokenizerError
from vireo_client.text.phobert import MASK_TOKEN, SPECIAL_TOKENS

_SPECIALS = [*SPECIAL_TOKENS, MASK_TOKEN]
_UNKNOWN = SPECIAL_TOKENS[3]


def train_bpe(
    texts: Iterable[str], *, vocab_size: int = 8_000, min_frequency: int = 2, lowercase: bool = True
) -> Tokenizer:
    """Train byte-pair encoding (Sennrich et al., ACL 2016) over the characters of words.

    Args:
        texts: Segmented captions.
        vocab_size: The largest number of ids, the special ones included.
        min_frequency: How often a pair must occur to be merged.
        lowercase: Whether case is dropped.

    Raises:
        TokenizerError: If `vocab_size` leaves no room beside the special tokens.
    """
    trainer = BpeTrainer(
        vocab_size=_checked(vocab_size),
        min_frequency=min_frequency,
        special_tokens=_SPECIALS,
        show_progress=False,
    )
    # The mark "▁" begins a word. (The trainer's own marks inside words make it order the alphabet
    # differently each time.)
    parts = Sequence([WhitespaceSplit(), Metaspace(prepend_scheme="always")])
    return _train(Tokenizer(BPE(unk_token=_UNKNOWN)), parts, trainer, texts, lowercase)


def train_word_vocabulary(
    texts: Iterable[str],
    *,
    vocab_size: int = 16_000,
    min_frequency: int = 1,
    lowercase: bool = True,
) -> Tokenizer:
    """Collect the words that occur most; any other word is `<unk>`.

    Args:
        texts: Segmented captions.
        vocab_size: The largest number of ids, the special ones included.
        min_frequency: How often a word must occur to be kept.
        lowercase: Whether case is dropped.

    Raises:
        TokenizerError: If `vocab_size` leaves no room beside the special tokens.
    """
    trainer = WordLevelTrainer(
        vocab_size=_checked(vocab_size),
        min_frequency=min_frequency,
        special_tokens=_SPECIALS,
        show_progress=False,
    )
    model = WordLevel(unk_token=_UNKNOWN)
    return _train(Tokenizer(model), WhitespaceSplit(), trainer, texts, lowercase)


def _train(
    tokenizer: Tokenizer,
    parts: PreTokenizer,
    trainer: BpeTrainer | WordLevelTrainer,
    texts: Iterable[str],
    lowercase: bool,
) -> Tokenizer:
    if lowercase:
        tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = parts
    tokenizer.train_from_iterator(texts, trainer)
    opening, closing = SPECIAL_TOKENS[0], SPECIAL_TOKENS[2]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{opening} $A {closing}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (opening, closing)],
    )
    return tokenizer


def _checked(vocab_size: int) -> int:
    if vocab_size <= len(_SPECIALS):
        raise TokenizerError(
            f"a vocabulary of {vocab_size} is too small; it must be more than {len(_SPECIALS)} ids"
        )
    return vocab_size
