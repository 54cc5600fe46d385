from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data_folder import data_file
from support.text_models import write_model
from vireo_client.errors import SegmenterError
from vireo_client.text.normalize import normalize
from vireo_client.text.vncorenlp.segmenter import VnCoreNLPSegmenter

SMALL_ANSWERS = {
    "": [],
    " \t": [],
    "Xe hơi đỏ": ["Xe_hơi đỏ"],
    "XE HƠI MÀU": ["XE_HƠI MÀU"],
    "xe hơi màu đỏ.": ["xe_hơi màu_đỏ ."],
    "học sinh học": ["học sinh học"],
    "hòa bình": ["hoà_bình"],
    "câu lạc bộ của anh Ba": ["câu_lạc_bộ của anh Ba"],
    "ông Nguyễn Văn An": ["ông Nguyễn_Văn_An"],
    "gặp Pơloong Đinh ở Đài Loan": ["gặp Pơloong_Đinh ở Đài_Loan"],
    "Hai con chó. Ba con chó?": ["Hai con_chó .", "Ba con_chó ?"],
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> VnCoreNLPSegmenter:
    return VnCoreNLPSegmenter(write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def real() -> VnCoreNLPSegmenter:
    return VnCoreNLPSegmenter(data_file("vncorenlp", "models", "wordsegmenter"))


@pytest.mark.parametrize(("text", "sentences"), SMALL_ANSWERS.items())
def test_small_model(small: VnCoreNLPSegmenter, text: str, sentences: list[str]) -> None:
    assert small.segment(text) == sentences


@given(text=st.text() | st.text("xehơiàộ .,!?:;\"'()_-1A\u200b", max_size=40))
def test_segmentation_keeps_every_character(small: VnCoreNLPSegmenter, text: str) -> None:
    normalized = normalize(text)
    segmented = " ".join(small.segment(normalized))
    assert segmented.replace("_", "").replace(" ", "") == normalized.replace("_", "").replace(
        " ", ""
    )


def test_files_are_the_two_of_its_folder(small: VnCoreNLPSegmenter) -> None:
    files = small.files()
    assert set(files) == {"vi-vocab", "wordsegmenter.rdr"}
    assert all(path.is_file() for path in files.values())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "wordsegmenter.rdr").unlink()
    with pytest.raises(SegmenterError, match=r"wordsegmenter\.rdr"):
        VnCoreNLPSegmenter(folder)


def _reference() -> list[tuple[str, list[str]]]:
    lines = data_file("segmentation", "vncorenlp_reference.jsonl").read_text("utf-8").splitlines()
    return [(row["text"], row["segmented"]) for row in map(json.loads, lines)]


def test_answers_as_the_reference(real: VnCoreNLPSegmenter) -> None:
    reference = _reference()
    different = [text for text, sentences in reference if real.segment(text) != sentences]
    assert len(different) <= len(reference) // 1000, different[:20]


def test_sixteen_threads_answer_the_same(real: VnCoreNLPSegmenter) -> None:
    texts = [text for text, _ in _reference()]
    alone = [real.segment(text) for text in texts]
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda _: [real.segment(text) for text in texts], range(16))
        assert all(answer == alone for answer in answers)
