import pytest
from PIL import Image
from vireo_client.errors import VireoError
from vireo_client.index import Match
from vireo_client.sheet import CELL, _fitted, _font, contact_sheet


def test_every_hit_gets_a_cell_and_gone_files_are_crossed(photo):
    red = photo("red.png")
    Image.new("RGB", (300, 300), (255, 0, 0)).save(red)
    matches = [Match(1, 0.9, str(red)), Match(2, 0.8, "/gone/away.jpg")]
    sheet = contact_sheet([("hai con chó", matches), ("một con mèo", matches)])
    reds = sum(count for count, colour in sheet.getcolors(1 << 20) if colour == (255, 0, 0))
    assert reds == 2 * CELL * CELL


def test_vietnamese_letters_have_glyphs():
    font = _font(20)
    missing = font.getmask("\uffff").getbbox(), bytes(font.getmask("\uffff"))
    for letter in "ăâđêôơưạẩẫằẵệốỗờửữỹ":
        assert (font.getmask(letter).getbbox(), bytes(font.getmask(letter))) != missing, letter


def test_a_long_query_is_cut():
    font = _font(17)
    short = _fitted("rất dài " * 100, font, 300)
    assert short.endswith("…")
    assert font.getlength(short) <= 300


def test_without_a_font_the_error_says_what_to_install(monkeypatch):
    from vireo_client import sheet

    monkeypatch.setattr(sheet, "_FONTS", ())
    monkeypatch.setattr(sheet.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VireoError, match="fonts-dejavu-core"):
        contact_sheet([("x", [])])
