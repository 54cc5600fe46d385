from __future__ import annotations

import pytest
from vireo_client.errors import TokenizerError
from vireo_client.text.tokenize import TextTokenizer
from vireo_training.models.tokenizer_training import train_bpe, train_word_vocabulary

CAPTIONS = ["Hai con_chó trên bãi_cỏ .", "Một xe_hơi đỏ .", "con_chó và xe_hơi"]


def test_trained_tokenizers_keep_special_ids_and_cover_their_texts() -> None:
    for tokenizer in (train_bpe(CAPTIONS, vocab_size=80), train_word_vocabulary(CAPTIONS)):
        text_tokenizer = TextTokenizer(tokenizer)
        assert text_tokenizer.pad_id == 1
        for ids in text_tokenizer.ids(CAPTIONS):
            assert (ids[0], ids[-1]) == (0, 2)
            assert 3 not in ids
            assert max(ids) < text_tokenizer.vocab_size
    assert TextTokenizer(train_word_vocabulary(CAPTIONS)).ids(["lạ"]) == [[0, 3, 2]]


def test_training_is_repeatable() -> None:
    assert (
        train_bpe(CAPTIONS, vocab_size=80).to_str() == train_bpe(CAPTIONS, vocab_size=80).to_str()
    )


def test_training_needs_room() -> None:
    with pytest.raises(TokenizerError, match="too small"):
        train_bpe(CAPTIONS, vocab_size=5)
