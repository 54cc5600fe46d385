import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from vireo_client.text.pipeline import TextPath
from vireo_client.text.segment import load_segmenter
from vireo_client.text.tokenize import TextTokenizer
from vireo_training.config import TextAugmentation
from vireo_training.data.text_augment import Variant, apply, draw, variants
from vireo_training.models.tokenizer_training import train_bpe

CAPTION = "Hai đứa trẻ đang chơi đùa trước Hồ Gươm."

TONES = {"`": "\u0300", "'": "\u0301", "?": "\u0309", "~": "\u0303", ".": "\u0323"}
# Open syllables that Vietnamese has, by their onset and rhyme, with the tones they are found with.
SYLLABLES = """
h-oa `'?. t-oa `'?. l-oa `'~ x-oa `'~ kh-oa '? th-oa `'?~ đ-oa `'. ng-oa '. nh-oa `' d-oa .
ch-oa ' g-oa '. b-oa . v-oa ' r-oa . s-oa . h-oe `' t-oe `'? l-oe `'. x-oe `' kh-oe '? nh-oe `
ch-oe . ng-oe ' h-uy '?. t-uy `'?. l-uy ~. th-uy `'?. ng-uy . x-uy ' s-uy ? d-uy ` ch-uy ` kh-uy ?
nh-uy . -oa '. -oe . -uy '?~
"""


def both_placements():
    """Each syllable with its tone on the first vowel and on the second."""
    pairs = []
    words = SYLLABLES.split()
    for syllable, tones in zip(words[::2], words[1::2], strict=True):
        onset, (first, second) = syllable.split("-")
        for mark in map(TONES.__getitem__, tones):
            both = onset + first + mark + second, onset + first + second + mark
            pairs.append([unicodedata.normalize("NFC", text) for text in both])
    return pairs


def test_nothing_set_leaves_captions_as_written():
    (only,) = variants(TextAugmentation())
    assert only == Variant(bare=False, case="written")
    assert apply(only, CAPTION) == CAPTION
    assert draw(TextAugmentation(), np.random.default_rng(0), 5) == [0] * 5


def test_every_variant_types_the_caption_as_it_says():
    settings = TextAugmentation(bare=0.5, lower=0.3, upper=0.3)
    assert [apply(variant, CAPTION) for variant in variants(settings)] == [
        "Hai đứa trẻ đang chơi đùa trước Hồ Gươm.",
        "hai đứa trẻ đang chơi đùa trước hồ gươm.",
        "HAI ĐỨA TRẺ ĐANG CHƠI ĐÙA TRƯỚC HỒ GƯƠM.",
        "Hai dua tre dang choi dua truoc Ho Guom.",
        "hai dua tre dang choi dua truoc ho guom.",
        "HAI DUA TRE DANG CHOI DUA TRUOC HO GUOM.",
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"bare": 1}, [(True, "written")]),
        ({"lower": 1}, [(False, "lower")]),
        ({"bare": 1, "upper": 1}, [(True, "upper")]),
        ({"lower": 0.25, "upper": 0.75}, [(False, "lower"), (False, "upper")]),
        ({"bare": 0.1}, [(False, "written"), (True, "written")]),
    ],
)
def test_variants_that_are_never_drawn_are_not_made(settings, expected):
    settings = TextAugmentation(**settings)
    assert variants(settings) == tuple(Variant(*variant) for variant in expected)
    drawn = draw(settings, np.random.default_rng(0), 400)
    assert set(drawn) == set(range(len(expected)))


def test_rates_are_those_set_and_independent_of_each_other():
    settings = TextAugmentation(bare=0.2, lower=0.3, upper=0.1)
    count = 200_000
    numbers = draw(settings, np.random.default_rng(0), count)
    shares = np.bincount(numbers, minlength=6) / count
    ways = variants(settings)
    case = {"written": 0.6, "lower": 0.3, "upper": 0.1}
    for way, share in zip(ways, shares, strict=True):
        expected = (0.2 if way.bare else 0.8) * case[way.case]
        # Five standard deviations.
        assert abs(share - expected) < 5 * (expected * (1 - expected) / count) ** 0.5, way


def test_draws_follow_from_the_generator():
    settings = TextAugmentation(bare=0.5, lower=0.5)
    one, same, other = (draw(settings, np.random.default_rng(s), 50) for s in (1, 1, 2))
    assert one == same != other
    assert draw(settings, np.random.default_rng(0), 0) == []


def test_shares_of_case_are_at_most_all_captions():
    with pytest.raises(ValidationError, match="together at most 1"):
        TextAugmentation(lower=0.6, upper=0.6)


@given(st.text())
def test_any_text_can_be_typed_and_bare_text_is_bare_already(text):
    for variant in variants(TextAugmentation(bare=0.5, lower=0.3, upper=0.3)):
        typed = apply(variant, text)
        if variant == Variant(bare=True, case="written"):
            assert apply(variant, typed) == typed


@pytest.mark.parametrize("segmenter", ["none", "pyvi"])
def test_old_and_new_tone_placement_are_one_text(segmenter):
    """Which is why no rate says how often captions are typed the other way."""
    pairs = both_placements()
    assert len(pairs) > 70
    assert all(old != new for old, new in pairs)
    # Every way to write a syllable is known to the tokenizer, or all could be one unknown.
    tokenizer = train_bpe([f"{old} {new}" for old, new in pairs], min_frequency=1)
    path = TextPath(load_segmenter(segmenter), TextTokenizer(tokenizer, (16, 32)))
    assert all(path.tokenizer.ids([old]) != path.tokenizer.ids([new]) for old, new in pairs)

    for old, new in pairs:
        for caption in ("{}", "một chiếc {} bên cạnh người đàn ông", "{} và hai con mèo"):
            one, other = caption.format(old), caption.format(new)
            decomposed = unicodedata.normalize("NFD", one)
            ids = {path.stages(text).ids for text in (one, other, decomposed)}
            assert len(ids) == 1, (one, other)


def test_a_capital_onset_changes_nothing_about_tones():
    path = TextPath(load_segmenter("none"), TextTokenizer(train_bpe([CAPTION]), (16, 32)))
    for old, new in both_placements():
        if old[0] not in "òóỏõọùúủũụ":
            assert path.segment(old.capitalize()) == path.segment(new.capitalize())
