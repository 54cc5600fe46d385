"""The tokenizer of a run: trained on its captions, or the pretrained encoder's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from vireo_client.text.phobert import CODES_FILE, VOCAB_FILE, load_phobert
from vireo_client.text.tokenize import TOKENIZER_FILE, TextTokenizer, load_tokenizer

from vireo_training.models.tokenizer_training import train_bpe, train_word_vocabulary

from ..config import TextTowerConfig
from .hub import fetch_folder


def make_tokenizer(text: TextTowerConfig, segmented: Sequence[str]) -> TextTokenizer:
    """Make the tokenizer that `text.tokenizer` asks for.

    Args:
        text: the text tower's settings.
        segmented: the training captions, segmented; what "bpe" and "words" learn from.

    Raises:
        TrainingError: the files of `text.name` cannot be had.
        TokenizerError: a folder holds no tokenizer, a damaged one or one without padding, or the
            buckets do not fit it.
    """
    return TextTokenizer(_make(text, segmented), text.buckets)


def _make(text: TextTowerConfig, segmented: Sequence[str]) -> Tokenizer:
    if text.tokenizer in ("bpe", "words"):
        train = train_bpe if text.tokenizer == "bpe" else train_word_vocabulary
        return train(segmented, vocab_size=text.vocab_size, lowercase=text.lowercase)
    if text.tokenizer != "pretrained":
        return load_tokenizer(Path(text.tokenizer))
    folder = fetch_folder(
        str(text.name),
        [TOKENIZER_FILE, VOCAB_FILE, CODES_FILE],
        advice="give text.name=FOLDER, or train a tokenizer with --set text.weights=null "
        "--set text.tokenizer=bpe",
    )
    # PhoBERT's own files go before a tokenizer.json that somebody made from them.
    if (folder / VOCAB_FILE).is_file() and (folder / CODES_FILE).is_file():
        return load_phobert(folder)
    return load_tokenizer(folder)
