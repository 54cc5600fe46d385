from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from vireo_client.text.cleaning import RULES
from vireo_client.text.normalize import normalize

LOOKALIKES = st.text(
    st.one_of(
        st.sampled_from("adđeioAD ıiÐðƉɖаесоіԁпαονΩｄ𝐝̵̶̧̛̣̀́̃̉̂̆̇͂ôờ1_"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=12,
)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("con cá màu ðỏ, Ðà Nẵng", "con cá màu đỏ, Đà Nẵng"),
        ("Ɖen ɖỏ d\u0335ỏ D\u0336à", "Đen đỏ đỏ Đà"),
        ("с\u0430nh сhó", "canh chó"),  # Cyrillic es, a, es
        ("t\u043e\u0301c, h\u043e\u0300a", "tóc, hoà"),  # Cyrillic o with a tone mark
        ("xe m\u03acy, \u039fng b\u1fb6", "xe máy, Ong bã"),  # Greek
        ("ｃｏｎ ｃá, 𝐱𝐞 đạ𝗽, ℎoa", "con cá, xe đạp, hoa"),
        ("a\u0301\u0302 \xe1\u0302 a\u0300\u0306 e\u0323\u0302", "ấ ấ ằ ệ"),
        ("o\u0301\u031b o\u0340 u\u0341 a\u0306\u0301", "ớ ò ú ắ"),
        ("xı\u0301ch lı\u0323ch i\u0307\u0301t", "xích lịch ít"),
    ],
)
def test_the_letter_meant(text: str, meant: str) -> None:
    assert normalize(text) == meant
    assert normalize(unicodedata.normalize("NFD", text)) == meant


@pytest.mark.parametrize(
    "text",
    ["мир", "Москва", "αρχή", "ο", "kΩ 5 µm", "sinθ", "ışık", "d̶e̶d̶", "１２", "café Ångström"],
)
def test_other_scripts_stay(text: str) -> None:
    assert normalize(text) == unicodedata.normalize("NFC", text)


def test_ordinary_vietnamese_stays(shared_data: Path) -> None:
    file = shared_data / "captions_vi" / "uitviic_test.jsonl"
    for line in file.read_text(encoding="utf-8").splitlines():
        for caption in json.loads(line)["captions"]:
            assert normalize(caption) == RULES["vi-nfc-tones-2"].clean(caption)


@given(LOOKALIKES)
@example("xԁ\u0335")
@example("xі\u0307\u0301")
@example("ò\u0302a")
def test_twice_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("màu ðỏ", "màu ðỏ"),
        ("с\u0430nh ｃá", "с\u0430nh ｃá"),
        ("hòa\u200b  a\u0301\u0302", "hoà á\u0302"),
    ],
)
def test_the_older_rule_stays_as_it_was(text: str, cleaned: str) -> None:
    assert RULES["vi-nfc-tones-2"].clean(text) == cleaned
    assert len(RULES["vi-nfc-tones-2"].steps) == 4
