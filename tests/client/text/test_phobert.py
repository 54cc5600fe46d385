from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data_folder import data_file
from support.text_models import write_phobert
from tokenizers import Tokenizer
from vireo_client.errors import TokenizerError
from vireo_client.text.phobert import load_phobert
from vireo_client.text.tokenize import TextTokenizer

_WHITE_SPACE = ["\n", "\r\n", "\t", "\xa0", "\u3000", "\x1c", "\x1f", "\x85", "\u2028", "\u200b"]
_PARTS = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "</w>", "@@", "_", "<", "😀", "\ud800", "xe_h"]
_SYLLABLES = ["xe", "hơi", "con", "nghiêng", "Việt_Nam", "người", "km²", "iPhone", "e\u0301", "ng"]
TEXTS = st.text(st.characters(exclude_categories=[])) | st.lists(
    st.sampled_from([*_WHITE_SPACE, *_PARTS, *_SYLLABLES, " "]) | st.characters()
).map("".join)


def _both(folder: Path) -> tuple[TextTokenizer, Any]:
    transformers = pytest.importorskip("transformers", reason="PhobertTokenizer is the yardstick")
    theirs = transformers.PhobertTokenizer(str(folder / "vocab.txt"), str(folder / "bpe.codes"))
    return TextTokenizer(load_phobert(folder), buckets=(10_000,)), theirs


def test_small_files(tmp_path: Path) -> None:
    tokenizer = TextTokenizer(load_phobert(write_phobert(tmp_path)))
    # 4 to 21 are the vocabulary's lines in their order, 22 is the mask.
    assert tokenizer.vocab_size == 23
    assert tokenizer.ids(["xe hơi <mask>"]) == [[0, 4, 6, 22, 2]]
    assert tokenizer.ids(["xe_hn"]) == [[0, 3, 12, 2]]  # the piece xe_h has no line
    assert tokenizer.ids(["\U0001f600"]) == [[0, 3, 2]]


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_small_files_give_the_ids_of_transformers(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    ours, theirs = _both(write_phobert(tmp_path_factory.getbasetemp() / "phobert"))
    assert ours.ids([text])[0] == theirs(text)["input_ids"]


def test_real_files_give_the_ids_of_transformers() -> None:
    ours, theirs = _both(data_file("phobert"))

    @settings(max_examples=1000, deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        assert ours.ids([text])[0] == theirs(text)["input_ids"]

    check()


def test_reference_sentences_give_the_ids_of_transformers() -> None:
    ours, theirs = _both(data_file("phobert"))
    lines = data_file("segmentation", "vncorenlp_reference.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    texts = [" ".join(row["segmented"]) for row in rows] + [row["text"] for row in rows]
    assert ours.ids(texts) == [theirs(text)["input_ids"] for text in texts]


def test_saved_file_gives_the_same_ids(tmp_path: Path) -> None:
    first = TextTokenizer(load_phobert(write_phobert(tmp_path)))
    first.save(tmp_path)
    second = TextTokenizer(Tokenizer.from_file(str(tmp_path / "tokenizer.json")))
    texts = ["xe hơi", "xe_hn con", "<s>\n"]
    assert second.ids(texts) == first.ids(texts)
    assert second.vocab_size == first.vocab_size


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("vocab.txt", b"xe\n", "line 1 is not `token count`"),
        ("vocab.txt", b"\xff\xfe", "not UTF-8"),
        ("bpe.codes", b"", "holds no codes"),
        ("bpe.codes", b"x e 1\n\n", "line 2 is empty"),
    ],
)
def test_broken_files(tmp_path: Path, file: str, content: bytes, reason: str) -> None:
    (write_phobert(tmp_path) / file).write_bytes(content)
    with pytest.raises(TokenizerError, match=reason):
        load_phobert(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    (write_phobert(tmp_path) / "bpe.codes").unlink()
    with pytest.raises(TokenizerError, match=r"bpe\.codes: cannot be read"):
        load_phobert(tmp_path)
