from __future__ import annotations

import pytest
from vireo_client.text.vncorenlp.toned import place_tones


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hòa bình", "hoà bình"), ("thủy thủ", "thuỷ thủ"), ("khỏe", "khoẻ"), ("qúy", "quý"),
        ("Ủy ban", "Uỷ ban"), ("tòan", "toàn"), ("HÒA", "HÒA"), ("hoà", "hoà"), ("mùa", "mùa"),
    ],
)  # fmt: skip
def test_tone_placement(old: str, new: str) -> None:
    assert place_tones(old) == new
