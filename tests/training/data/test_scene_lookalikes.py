"""The scenes' captions, typed with look-alikes, are the same captions to a model."""

import random

from vireo_client.text.normalize import normalize
from vireo_training.data.scenes import captions_of, generate_scenes

ETH = str.maketrans("đĐ", "ðÐ")
CYRILLIC = str.maketrans("cop", "сор")


def test_captions_with_lookalikes_normalise_alike() -> None:
    rng = random.Random(1)
    captions = [c for scene in generate_scenes("test", 60, 1) for c in captions_of(scene, rng)]
    assert any("đ" in caption for caption in captions)
    for caption in captions:
        assert normalize(caption.translate(ETH)) == normalize(caption)
    words = {word for caption in captions for word in caption.split()}
    for word in words:
        mixed = word.translate(CYRILLIC)
        if any(letter in "abdeghiklmnqrstuvxyđ" for letter in mixed):
            assert normalize(mixed) == normalize(word)
