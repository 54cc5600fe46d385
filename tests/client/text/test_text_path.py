import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vireo_client.bundle import Bundle
from vireo_client.errors import BundleError, DataError, TokenizerError
from vireo_client.text.pipeline import TextPath


@pytest.fixture(scope="module")
def text_path(bundle):
    return TextPath.from_bundle(bundle)


def test_the_segmenter_of_the_bundle_joins_the_syllables_of_a_word(text_path):
    assert text_path.segment("Người  đàn ông đi xe hơi") == "Người đàn ông đi xe_hơi"


def test_composed_and_decomposed_texts_are_one(text_path):
    import unicodedata

    text = "Hai người phụ nữ đội nón lá"
    assert text_path.segment(unicodedata.normalize("NFD", text)) == text_path.segment(text)


def test_encode_covers_every_text_once_and_pads_to_buckets(text_path):
    texts = ["con cá", "ngôi nhà " * 20, "", "hai quả bóng đỏ to ở phía trên " * 40, "ba"]
    seen = {}
    for positions, input_ids in text_path.encode(texts):
        assert input_ids.dtype == np.int32
        assert input_ids.shape[1] in text_path.tokenizer.buckets
        for position, row in zip(positions, input_ids, strict=True):
            seen[int(position)] = row
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert len(seen[3]) == text_path.tokenizer.buckets[-1]
    assert (seen[0] == text_path.tokenizer.pad_id).sum() > 0
    # A text's ids do not depend on its neighbours.
    ((_, alone),) = text_path.encode(["con cá"])
    assert np.array_equal(alone[0], seen[0])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=120), min_size=1, max_size=4))
def test_any_text_gives_ids_of_the_vocabulary_in_a_bucket(text_path, texts):
    spec = text_path.tokenizer
    rows = 0
    for positions, input_ids in text_path.encode(texts):
        rows += len(positions)
        assert input_ids.shape[1] in spec.buckets
        assert input_ids.min() >= 0
        assert input_ids.max() < spec.vocab_size
    assert rows == len(texts)


def test_half_a_character_does_not_raise(text_path):
    assert sum(len(b.positions) for b in text_path.encode(["con \ud83d cá"])) == 1


def test_what_is_no_list_of_strings_is_refused(text_path):
    with pytest.raises(DataError, match="put it in a list"):
        list(text_path.encode("con cá"))
    with pytest.raises(DataError, match="type int"):
        list(text_path.encode([3]))


def test_a_bundle_of_another_normalisation_is_refused(bundle):
    other = Bundle(bundle.folder)
    text = bundle.config.text.model_copy(update={"normalization": "nfkc-9"})
    other.config = bundle.config.model_copy(update={"text": text})
    with pytest.raises(BundleError, match="normalisation 'nfkc-9'"):
        TextPath.from_bundle(other)


def test_a_damaged_tokenizer_is_an_error(bundle, tmp_path):
    import shutil

    folder = shutil.copytree(bundle.folder, tmp_path / "b")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: cannot be read"):
        TextPath.from_bundle(Bundle(folder))
