from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vireo_client.captions import CaptionedImage, CaptionSet
from vireo_training.readers import Mixture, read_mixture


def captions(*names: str, text: str = "một") -> CaptionSet:
    return CaptionSet([CaptionedImage(Path(name), (text,)) for name in names])


def test_an_image_of_two_sources_is_one_record():
    mixture = Mixture.of([(captions("a", "b"), 1.0), (captions("b", "c", text="hai"), 2.0)])
    assert [(r.path.name, r.captions) for r in mixture.records] == [
        ("a", ("một",)),
        ("b", ("một", "hai")),
        ("c", ("hai",)),
    ]
    assert mixture.weights.tolist() == [1.0, 2.0, 2.0]


def test_a_seed_and_an_epoch_give_one_draw():
    mixture = Mixture.of([(captions(*"abcdefgh"), 1.0), (captions(*"ijkl"), 3.0)])
    first = mixture.draw(0, seed=1)
    assert first.tolist() == mixture.draw(0, seed=1).tolist()
    assert first.tolist() != mixture.draw(1, seed=1).tolist()
    assert first.tolist() != mixture.draw(0, seed=2).tolist()


def test_equal_weights_draw_every_record_once():
    mixture = Mixture.of([(captions(*"abcdefgh"), 0.3)])
    assert sorted(mixture.draw(5, seed=0)) == list(range(8))


@given(
    weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=20),
    count=st.integers(0, 60),
    seed=st.integers(0, 5),
)
def test_each_record_comes_as_often_as_its_weight_says(weights, count, seed):
    records = [CaptionedImage(Path(str(n)), ("x",)) for n in range(len(weights))]
    mixture = Mixture(records, np.array(weights))
    drawn = np.bincount(mixture.draw(0, seed=seed, count=count), minlength=len(weights))
    expected = np.array(weights) / sum(weights) * count
    assert drawn.sum() == count
    assert np.all(np.abs(drawn - expected) < 1 + 1e-6)


def test_over_many_epochs_the_shares_are_the_weights():
    mixture = Mixture.of([(captions(*"abc"), 1.0), (captions("d"), 2.0)])
    draws = np.concatenate([mixture.draw(epoch, seed=0) for epoch in range(500)])
    assert np.bincount(draws) / 500 == pytest.approx([0.8, 0.8, 0.8, 1.6], abs=0.06)


def test_sources_are_read_by_their_text(images, write):
    images("a.jpg", "b.jpg")
    one = write("one.jsonl", '{"image": "a.jpg", "caption": "một"}\n{broken\n')
    two = write("two.csv", "image,caption\nb.jpg,hai\nb.jpg,hai\n")
    mixture = read_mixture([str(one), f"{two}=2"])
    assert [r.path.name for r in mixture.records] == ["a.jpg", "b.jpg"]
    assert mixture.weights.tolist() == [1.0, 2.0]
    assert [skip.where for skip in mixture.skipped] == [f"{one}:2"]
    assert len(mixture.left_out) == 1
