"""Captions of each kind, as the client's text path makes words and ids of them."""

from pathlib import Path

import pytest
from vireo_client.captions import CaptionedImage
from vireo_client.text.pipeline import TextPath, WordPath
from vireo_client.text.segment import NoSegmenter
from vireo_client.text.tokenize import TextTokenizer
from vireo_training.config import TextAugmentation
from vireo_training.data.captions import (
    captions_without_images,
    class_captions,
    image_captions,
    validation_captions,
)
from vireo_training.data.text_augment import apply, variants
from vireo_training.models.tokenizer_training import train_word_vocabulary

WAYS = variants(TextAugmentation(bare=0.2, upper=0.1))
GROUPS = [("Hòa bình", "con  chó đen"), ("một con mèo",), ("a", "b", "c")]


@pytest.fixture(scope="module")
def path():
    texts = [apply(way, text) for way in WAYS for group in GROUPS for text in group]
    words = WordPath(NoSegmenter())
    tokenizer = train_word_vocabulary([words.segment(text) for text in texts], lowercase=False)
    return TextPath(NoSegmenter(), TextTokenizer(tokenizer))


def _records(groups):
    return [CaptionedImage(Path(f"{n}.png"), group) for n, group in enumerate(groups)]


@pytest.mark.parametrize(
    "segment",
    [
        lambda words: image_captions(words, _records(GROUPS), WAYS),
        lambda words: captions_without_images(words, GROUPS, WAYS),
        lambda words: class_captions(words, GROUPS, WAYS),
    ],
    ids=["images", "without images", "classes"],
)
def test_ids_are_those_that_the_text_path_gives_each_variant(path, segment):
    captions = segment(path.words).ids(path.tokenizer)
    assert captions.starts.tolist() == [0, 2, 3, 6]
    assert len(captions.variants) == len(WAYS) == 4
    texts = [text for group in GROUPS for text in group]
    for way, ragged in zip(WAYS, captions.variants, strict=True):
        for number, text in enumerate(texts):
            stages = path.stages(apply(way, text))
            assert ragged[number].tolist() == list(stages.ids), (way, text)


def test_validation_captions_are_as_they_were_written(path):
    captions = validation_captions(path.words, _records(GROUPS)).ids(path.tokenizer)
    (written,) = captions.variants
    assert written[0].tolist() == list(path.stages("Hòa bình").ids)
    assert len(written) == 6


def test_no_captions_are_no_groups(path):
    captions = captions_without_images(path.words, [], WAYS).ids(path.tokenizer)
    assert len(captions) == 0
    assert [len(ragged) for ragged in captions.variants] == [0] * len(WAYS)
