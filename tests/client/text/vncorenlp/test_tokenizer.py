from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vireo_client.text.vncorenlp.tokenizer import split_sentences, tokenize


@pytest.mark.parametrize(
    "tokens",
    [
        "con chó .", "Giá 1.250.000 đ / kg , giảm 15,5% !", "TP. HCM", "U.S.A.", "Mr. Smith",
        "Văn A.", "Th.S", "a.b@mail.vn", "C + +", "Python 3.11", "một-hai-ba", "A5 6E ABC123",
        "20/11/2026 7h30 10:30", "6 - Jan", "1.500-2.000", "50 °C", "—gạch ngang—", "hai … ba",
        "# hashtag @ user", "http://vi.wikipedia.org/wiki/Hà_Nội", "( hai ) [ và ] { mèo }",
        "“ ngoặc kép ”", "xe _ hơi", "4 – 5", "áo dài ...", "Covid-19", "đẹp😀",
    ],
)  # fmt: skip
def test_tokens(tokens: str) -> None:
    """Each token whole beside blanks; the pieces of a chunk as the reference cuts it."""
    assert tokenize(tokens) == tokens.split(" ")


@pytest.mark.parametrize(
    ("chunk", "tokens"),
    [
        ("1.250.000đ/kg,", "1.250.000 đ / kg ,"), ("15,5%!", "15,5% !"), ("TP.HCM", "TP. HCM"),
        ("C++", "C + +"), ("Python3.11", "Python 3.11"), ("6-Jan", "6 - Jan"), ("50°C", "50 °C"),
        ("hai…ba", "hai … ba"), ("xe_hơi", "xe _ hơi"), ("đ.", "đ ."), ("tennis.q", "tennis.q"),
        ("4–5,", "4 – 5 ,"), ("(cỏ,", "( cỏ ,"), ("đẹp!!!", "đẹp ! ! !"), ("km/h", "km/h"),
        ("chó.Ba", "chó.Ba"), ("$100", "$100"), ("A/C", "A / C"), ("bóng;", "bóng ;"),
    ],
)  # fmt: skip
def test_chunks(chunk: str, tokens: str) -> None:
    assert tokenize(chunk) == tokens.split(" ")


def test_only_ascii_white_space_parts_chunks() -> None:
    assert tokenize("Xe   hơi\tđỏ\n") == ["Xe", "hơi", "đỏ"]
    assert tokenize("xe\xa0hơi") == ["xe\xa0hơi"]


@given(st.text())
def test_nothing_is_lost(text: str) -> None:
    tokens = tokenize(text)
    assert "".join(tokens) == re.sub(r"[ \t\n\x0b\f\r]", "", text)
    assert [token for sentence in split_sentences(tokens) for token in sentence] == tokens


@pytest.mark.parametrize(
    "text",
    [
        "Hai con chó . | Ba con mèo ? | Bốn !",
        "áo đẹp quá ! | ! | !",
        "bóng . , rồi bóng . 1",
        "công chúng ... đã tạo",
        'khoe : " bà xã ... " .',
        'tàu ... | " .',
        'gọi : " Mẹ ! | Bố ! | " .',
        "trên sân . ]",
        "trên sân . | ;",
        "như : | tivi , cassette",
        "cho biết : người mua",
    ],
)
def test_sentences(text: str) -> None:
    parts = [part.split() for part in text.split("|")]
    assert split_sentences([token for part in parts for token in part]) == parts


def test_no_tokens_no_sentences() -> None:
    assert split_sentences(tokenize(" \n")) == []
