from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from support.text_models import write_phobert
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from vireo_client.errors import TokenizerError
from vireo_client.text import tokenize
from vireo_client.text.tokenize import TextTokenizer, load_tokenizer, pad_ids

CAPTIONS = ["Hai con_chó trên bãi_cỏ .", "Một xe_hơi đỏ .", "con_chó và xe_hơi"]


@pytest.fixture
def words() -> Tokenizer:
    """Each word of the captions is a token."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *sorted({*" ".join(CAPTIONS).lower().split()})]
    tokenizer = Tokenizer(WordLevel(dict(zip(pieces, range(99), strict=False)), unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def test_pads_to_the_smallest_bucket_that_holds(words: Tokenizer) -> None:
    tokenizer = TextTokenizer(words, buckets=(4, 8))
    rows = tokenizer.ids(["xe_hơi", "hai con_chó trên bãi_cỏ", "đỏ đỏ"])
    batches = tokenizer.pad(rows)
    assert [batch.input_ids.shape for batch in batches] == [(2, 4), (1, 8)]
    assert [batch.positions.tolist() for batch in batches] == [[0, 2], [1]]
    for batch in batches:
        assert batch.input_ids.dtype == np.int32
        for position, row in zip(batch.positions, batch.input_ids, strict=True):
            ids = rows[position]
            assert row[: len(ids)].tolist() == ids
            assert (row[len(ids) :] == tokenizer.pad_id).all()
    assert tokenizer.pad([]) == []


def test_over_long_text_is_cut_at_a_word_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenize, "_warned", False)
    tokenizer = TextTokenizer(load_tokenizer(write_phobert(tmp_path)), buckets=(6,))
    with caplog.at_level(logging.WARNING):
        # "xe" is one piece, "hin" three: two words fit beside the special tokens, half of one not.
        assert tokenizer.ids(["xe xe hin xe"]) == [[0, 4, 4, 2]]
        assert tokenizer.ids(["hhhhhhhh"])[0] == [0, 15, 15, 15, 15, 2]
        assert len(tokenizer.ids(["xe " * 5_000])[0]) == 6
    assert [record.message for record in caplog.records if "was cut" in record.message] == [
        "a text of 8 tokens was cut to fit 6; further ones are cut silently"
    ]


def test_over_long_text_can_be_cut_at_a_token(tmp_path: Path) -> None:
    whole = TextTokenizer(load_tokenizer(write_phobert(tmp_path)), buckets=(9,))
    tokenizer = TextTokenizer(load_tokenizer(tmp_path), buckets=(5,), cut="token")
    (ids,) = whole.ids(["xe xe hin xe"])
    assert tokenizer.ids(["xe xe hin xe"]) == [[*ids[:4], 2]]
    assert len(tokenizer.ids(["xe " * 5_000])[0]) == 5
    assert tokenizer.ids(["xe"]) == [[0, 4, 2]]


def test_padding_may_stand_on_the_left(words: Tokenizer) -> None:
    tokenizer = TextTokenizer(words, buckets=(4,), pad_side="left")
    ((_, padded),) = tokenizer.pad([[5, 6], [5, 6, 7, 8]])
    assert padded.tolist() == [[1, 1, 5, 6], [5, 6, 7, 8]]


def test_rows_are_padded_to_any_length() -> None:
    rows = [[5, 6], [7]]
    assert pad_ids(rows, 3, 1).tolist() == [[5, 6, 1], [7, 1, 1]]
    arrays = [np.array(row, dtype=np.int32) for row in rows]
    padded = pad_ids(arrays, 3, 9, "left")
    assert padded.tolist() == [[9, 5, 6], [9, 9, 7]]
    assert padded.dtype == np.int32
    assert pad_ids([], 3, 1).shape == (0, 3)


def test_a_padding_id_need_not_bear_the_name(words: Tokenizer) -> None:
    assert TextTokenizer(words, buckets=(4,), pad_id=2).pad([[5]])[0].input_ids.tolist() == [
        [5, 2, 2, 2]
    ]


def test_ids_that_the_model_lacks_are_unknown(words: Tokenizer) -> None:
    (whole,) = TextTokenizer(words).ids(["hai con_chó trên"])
    limit = max(whole)
    tokenizer = TextTokenizer(words, vocab_size=limit)
    assert tokenizer.ids(["hai con_chó trên"]) == [[3 if n == limit else n for n in whole]]
    assert tokenizer.vocab_size == limit


def test_lone_surrogates_are_unknown(words: Tokenizer) -> None:
    assert TextTokenizer(words).ids(["\ud83d đỏ"])[0][1] == 3


@pytest.mark.parametrize("buckets", [(), (8, 4), (4, 4), (2,), (0, 8)])
def test_unusable_buckets(words: Tokenizer, buckets: tuple[int, ...]) -> None:
    with pytest.raises(TokenizerError, match="must ascend"):
        TextTokenizer(words, buckets=buckets)


def test_a_tokenizer_without_padding_token() -> None:
    with pytest.raises(TokenizerError, match="no padding token"):
        TextTokenizer(Tokenizer(WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>")))


def test_load_takes_either_form_and_prefers_json(tmp_path: Path, words: Tokenizer) -> None:
    write_phobert(tmp_path)
    assert TextTokenizer(load_tokenizer(tmp_path)).vocab_size == 23
    TextTokenizer(words).save(tmp_path)
    assert load_tokenizer(tmp_path).to_str() == words.to_str()
    assert load_tokenizer(tmp_path / "tokenizer.json").to_str() == words.to_str()


def test_load_says_what_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="holds neither"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"', encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: cannot be read"):
        load_tokenizer(tmp_path)


def test_a_panic_of_the_library_is_an_error_of_ours(words, tmp_path):
    """It is no `Exception`, and would end the program."""
    damaged = json.loads(words.to_str())
    damaged["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(damaged))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: cannot be read"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_that_cannot_encode_is_an_error_of_ours():
    without_unknown = Tokenizer(WordLevel({"<pad>": 0, "a": 1}, unk_token="<unk>"))
    tokenizer = TextTokenizer(without_unknown, buckets=(4,))
    with pytest.raises(TokenizerError, match="cannot encode, so its file is damaged"):
        tokenizer.ids(["b"])
