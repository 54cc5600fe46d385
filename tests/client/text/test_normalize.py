from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from vireo_client.text.normalize import normalize

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates too


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("", ""),
        ("  Xe\xa0\xa0hơi\t\r\nđỏ ", "Xe hơi đỏ"),
        ("Tiê\u0301ng Viê\u0323t", "Tiếng Việt"),
        ("\u200b\u200bđiện\ufeff", "điện"),
        ("e\u200b\u0301", "é"),
        ("trắng\u2011đen \u2212", "trắng-đen -"),
        ("„kép‟ ‚đơn‛ “giữ” – — …", "“kép“ ‘đơn‘ “giữ” – — …"),
        ("hòa bình, THỦY", "hoà bình, THỦY"),
        ("a\x00b\x07\x85c", "ab c"),
        ("\ud83d", "\ufffd"),
        ("đẹp 😀 iPhone", "đẹp 😀 iPhone"),
        ("xe hoi mau do", "xe hoi mau do"),
        ("a\u3000b\u2028c", "a b c"),
    ],
)
def test_steps(text: str, normalized: str) -> None:
    assert normalize(text) == normalized


@given(ANY_TEXT)
@example("o\u0300a\u0323")
@example("òa\u0327")
@example("\ud83d\u200d\ude00")
def test_twice_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once


@given(ANY_TEXT)
def test_the_answer_is_clean(text: str) -> None:
    normalized = normalize(text)
    normalized.encode()
    assert unicodedata.is_normalized("NFC", normalized)
    assert normalized == " ".join(normalized.split())
    assert not any(unicodedata.category(character) == "Cc" for character in normalized)
