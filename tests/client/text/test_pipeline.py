from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.text_models import write_model, write_phobert
from vireo_client.errors import DataError
from vireo_client.text.pipeline import TextPath, WordPath
from vireo_client.text.segment import load_segmenter
from vireo_client.text.tokenize import TextTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> TextPath:
    folder = write_phobert(write_model(tmp_path_factory.mktemp("bundle")))
    return TextPath(load_segmenter("vncorenlp", folder), TextTokenizer(load_tokenizer(folder)))


def test_stages(path: TextPath) -> None:
    stages = path.stages("  Xe hơi\xa0của con chó. Xe con! ")
    assert stages.normalized == "Xe hơi của con chó. Xe con!"
    assert stages.sentences == ("Xe_hơi của con_chó .", "Xe con !")
    assert stages.tokens[0] == "<s>"
    assert len(stages.tokens) == len(stages.ids)
    assert stages.bucket == 32


def test_words_alone_are_those_of_the_whole_path(path: TextPath) -> None:
    text = "  Xe hơi\xa0của con chó. Xe con! "
    words = WordPath(path.segmenter, path.normalization)
    assert words.stages(text).sentences == path.stages(text).sentences
    assert words.segment(text) == path.segment(text) == "Xe_hơi của con_chó . Xe con !"
    with pytest.raises(DataError, match="of type int"):
        words.segment(3)  # type: ignore[arg-type]


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=[])))
def test_any_text_gives_ids_of_the_vocabulary_within_its_bucket(path: TextPath, text: str) -> None:
    stages = path.stages(text)
    assert all(0 <= number < path.tokenizer.vocab_size for number in stages.ids)
    assert len(stages.ids) <= stages.bucket
    ((positions, input_ids),) = path.encode([text])
    assert positions.tolist() == [0]
    assert input_ids[0, : len(stages.ids)].tolist() == list(stages.ids)


@pytest.mark.parametrize(
    "piece",
    ["xe hơi ", "a.", "1.1", "a@", "+a", '" .', "-", "😀", "Ấn Độ ", "A.", "www.", "\ud800", "1,",
     "e\u0301", "x", "Á", "\u200b", ": a ,", "http://", "<s>"],
)  # fmt: skip
def test_ten_thousand_characters_are_taken(path: TextPath, piece: str) -> None:
    text = (piece * 10_000)[:10_000]
    assert len(path.stages(text).ids) <= 256


def test_encode_covers_every_text_once(path: TextPath) -> None:
    texts = ["", "xe hơi", "con chó " * 4, "xe hơi " * 300]
    batches = path.encode(texts)
    assert sorted(int(at) for batch in batches for at in batch.positions) == [0, 1, 2, 3]
    assert [batch.input_ids.shape[1] for batch in batches] == [16, 32, 256]
    assert path.encode([]) == []


@pytest.mark.parametrize("wrong", [None, 3, b"xe", ["xe"]])
def test_what_is_no_string_is_an_error(path: TextPath, wrong: Any) -> None:
    with pytest.raises(DataError, match=f"of type {type(wrong).__name__}"):
        path.stages(wrong)
    with pytest.raises(DataError, match=f"of type {type(wrong).__name__}"):
        path.encode(["xe", wrong])


def test_one_string_is_no_list(path: TextPath) -> None:
    with pytest.raises(DataError, match="put it in a list"):
        path.encode("xe hơi")


def test_threads_answer_the_same(path: TextPath) -> None:
    texts = [f"xe hơi {number} của con chó màu đỏ" for number in range(200)]
    alone = [path.stages(text) for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(16) as pool:
            answers = pool.map(lambda _: [path.stages(text) for text in texts], range(16))
            assert all(answer == alone for answer in answers)
    finally:
        sys.setswitchinterval(interval)


def test_the_tokenizer_of_transformers_is_not_needed(path: TextPath, tmp_path: Path) -> None:
    path.tokenizer.save(tmp_path)
    again = TextPath(path.segmenter, TextTokenizer(load_tokenizer(tmp_path)))
    assert again.stages("xe hơi đỏ") == path.stages("xe hơi đỏ")
