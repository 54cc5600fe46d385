import pytest
from PIL import Image
from vireo_client.errors import VireoError
from vireo_client.index import Match
from vireo_client.sheet import CELL, _columns, _fitted, _font, contact_sheet


def test_every_hit_gets_a_cell_and_gone_files_are_crossed(photo):
    red = photo("red.png")
    Image.new("RGB", (300, 300), (255, 0, 0)).save(red)
    matches = [Match(1, 0.9, str(red)), Match(2, 0.8, "/gone/away.jpg")]
    sheet = contact_sheet([("hai con chó", matches), ("một con mèo", matches)])
    reds = sum(count for count, colour in sheet.getcolors(1 << 20) if colour == (255, 0, 0))
    assert reds == 2 * CELL * CELL


@pytest.mark.parametrize(
    ("hits", "columns", "lines"),
    [(0, 1, 1), (1, 1, 1), (6, 6, 1), (7, 5, 2), (10, 5, 2), (25, 5, 5), (26, 6, 5), (1000, 8, 13)],
)
def test_many_hits_stand_in_a_grid(hits, columns, lines):
    assert _columns(hits) == columns
    matches = [Match(n + 1, 0.5, "/gone.jpg") for n in range(hits)]
    width, height = contact_sheet([("xe", matches)]).size
    assert width == max(720, 12 + columns * (CELL + 12))
    assert lines * CELL < height < (lines + 1) * (CELL + 60)


def test_the_hits_of_each_query_stand_below_it(photo):
    """Three grids of different heights, each of one colour."""
    rows = []
    for colour, count in (("red", 7), ("lime", 2), ("blue", 25)):
        path = photo(f"{colour}.png")
        Image.new("RGB", (CELL, CELL), colour).save(path)
        rows.append(
            (colour, [Match(n + 1, 0.5, str(path), "một câu dài " * 9) for n in range(count)])
        )
    sheet = contact_sheet(rows)
    counts = {colour: count for count, colour in sheet.getcolors(1 << 20)}
    for colour, count in (((255, 0, 0), 7), ((0, 255, 0), 2), ((0, 0, 255), 25)):
        assert counts[colour] == count * CELL * CELL
    band = sheet.crop((0, 0, sheet.width, sheet.height // 5))
    assert (0, 0, 255) not in {colour for _, colour in band.getcolors(1 << 20)}


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
