import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vireo_client.text.cleaning import NONE, OPEN_CLIP, RULES, SIGLIP
from vireo_client.text.normalize import NORMALIZATION, normalize

TEXTS = st.text(
    alphabet=st.one_of(
        st.sampled_from("ộáđ Ưa\u0301\u0323\u0302&lt;amp;_!?.,'“”…\u200b\xa0\t\n🐟ﬁＡ"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def open_clip():
    """The library's own rules; it imports torch."""
    pytest.importorskip("torch", reason="open_clip needs torch")
    import support.torch_settings  # noqa: F401

    return pytest.importorskip("open_clip.tokenizer", reason="pip install 'vireo[sources]'")


@pytest.mark.parametrize("theirs", OPEN_CLIP)
@settings(deadline=None)
@given(text=TEXTS)
def test_open_clips_rules_are_open_clips(open_clip, theirs, text):
    assert RULES[OPEN_CLIP[theirs]].clean(text) == open_clip.get_clean_fn(theirs)(text)


def test_siglip_drops_case_and_punctuation():
    assert RULES[SIGLIP].clean("  Hai CON  chó,\n(đỏ)! co\u0323\u0302 ") == "hai con chó đỏ cộ"


def test_our_own_rule_and_none():
    text = "  Hoà  bình\u200b "
    assert RULES[NORMALIZATION].clean(text) == normalize(text)
    assert RULES[NONE].clean(text) is text
