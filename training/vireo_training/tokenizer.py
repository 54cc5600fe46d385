"""Trains the small towers' tokenizer: lower-cased BPE over segmented captions."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

# PhoBERT's special tokens and ids, so that every text tower of the project pads alike.
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
PAD_ID = SPECIAL_TOKENS.index("<pad>")


def train_bpe(captions: Iterable[str], vocab_size: int) -> Tokenizer:
    """Trains a BPE (Sennrich et al., 2016) of at most `vocab_size` entries on segmented captions.

    Words are what blanks and punctuation separate; `_` joins the syllables of a word and stays
    inside it. Captions are lower-cased, wrapped in `<s>` and `</s>`.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Marks word starts with a letter. An end-of-word suffix would do as well, but the
            # trainer numbers suffixed letters in the order of a hash table: another every run.
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Split(Regex(r"[^\w▁]"), "isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    start, end = SPECIAL_TOKENS.index("<s>"), SPECIAL_TOKENS.index("</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", start), ("</s>", end)]
    )
    return tokenizer
