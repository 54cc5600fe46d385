import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from vireo_training.loop.loss import (
    contrastive_loss,
    siglip_loss,
    soft_target_loss,
    text_pair_loss,
)


def _unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


SCALE = torch.tensor(14.0, dtype=torch.float64)


def test_one_caption_an_image_is_clips_loss():
    images, texts = _unit(9, 16), _unit(9, 16)
    logits = SCALE * images @ texts.T
    labels = torch.arange(9)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert contrastive_loss(images, texts, labels, SCALE) == pytest.approx(expected.item(), 1e-12)


def test_several_captions_equal_the_loss_written_out_one_by_one():
    images, texts = _unit(4, 8), _unit(7, 8)
    owner = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    logits = (SCALE * texts @ images.T).tolist()
    to_image = sum(
        -math.log(math.exp(logits[t][p]) / sum(math.exp(x) for x in logits[t]))
        for t, p in enumerate(owner.tolist())
    ) / len(owner)
    to_text = 0.0
    for p in range(4):
        own = [t for t in range(7) if owner[t] == p]
        others = sum(math.exp(logits[t][p]) for t in range(7) if owner[t] != p)
        each = [-math.log(math.exp(logits[t][p]) / (math.exp(logits[t][p]) + others)) for t in own]
        to_text += sum(each) / len(each) / 4
    loss = contrastive_loss(images, texts, owner, SCALE)
    assert loss.item() == pytest.approx((to_image + to_text) / 2, 1e-12)


def test_an_images_own_captions_are_not_its_negatives():
    """With one image in the batch nothing is wrong with any of its captions: no loss at all."""
    loss = contrastive_loss(_unit(1, 8), _unit(5, 8), torch.zeros(5, dtype=torch.long), SCALE)
    assert loss.item() == 0


def test_the_right_pairs_have_the_lowest_loss():
    images = _unit(6, 32)
    labels = torch.arange(6)
    right = contrastive_loss(images, images, labels, SCALE)
    assert right < contrastive_loss(images, images.roll(1, 0), labels, SCALE)


IMAGES = torch.eye(4, dtype=torch.float64)
"""With one axis an image, a caption's vector is its row of similarities."""

batches = st.lists(st.integers(0, 3), min_size=0, max_size=8).map(
    lambda more: torch.tensor([0, 1, 2, 3, *more])  # every image has a caption
)


def _losses(images, texts, owner, shared=None):
    bias = torch.tensor(-3.0, dtype=torch.float64)
    return [
        contrastive_loss(images, texts, owner, SCALE, shared),
        siglip_loss(images, texts, owner, SCALE, bias, shared),
        text_pair_loss(texts, owner, SCALE, shared),
    ]


@given(batches, st.randoms())
def test_neither_the_order_of_captions_nor_of_images_matters(owner, random):
    images, texts = _unit(4, 8), _unit(len(owner), 8)
    captions = random.sample(range(len(owner)), len(owner))
    order = random.sample(range(4), 4)
    moved = torch.tensor(order).argsort()[owner[captions]]
    for one, other in zip(
        _losses(images, texts, owner),
        _losses(images[order], texts[captions], moved),
        strict=True,
    ):
        assert one.item() == pytest.approx(other.item(), 1e-12)


@given(batches)
def test_captions_draw_their_image_and_push_off_every_other(owner):
    """However many siblings a caption has: it is never a negative of its own image."""
    own = F.one_hot(owner, 4).bool()
    for loss in (contrastive_loss, siglip_loss):
        texts = (_unit(len(owner), 4) / 10).requires_grad_()
        bias = [torch.tensor(-1.0)] if loss is siglip_loss else []
        (gradient,) = torch.autograd.grad(loss(IMAGES, texts, owner, SCALE, *bias), texts)
        assert (gradient[own] < 0).all()
        assert (gradient[~own] > 0).all()


SHARED = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([7, 8, 7, 9, 9])
"""Owners and texts: images 0 and 1 share text 7, images 2 and 3 text 9."""
FITTING = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
"""The images that each caption fits."""


def test_a_shared_text_is_no_negative_of_the_images_that_share_it():
    owner, shared = SHARED
    images, texts = _unit(4, 8), _unit(5, 8)
    raw = (SCALE * texts @ images.T).tolist()
    to_image = to_text = 0.0
    for t, own in enumerate(owner.tolist()):
        positive = math.exp(raw[t][own])
        images_beside = [p for p in range(4) if not FITTING[t][p]]
        captions_beside = [c for c in range(5) if not FITTING[c][own]]
        to_image -= math.log(
            positive / (positive + sum(math.exp(raw[t][p]) for p in images_beside))
        )
        each = -math.log(
            positive / (positive + sum(math.exp(raw[c][own]) for c in captions_beside))
        )
        to_text += each / owner.tolist().count(own)
    loss = contrastive_loss(images, texts, owner, SCALE, shared)
    assert loss.item() == pytest.approx((to_image / 5 + to_text / 4) / 2, 1e-12)


def test_a_shared_text_has_no_sigmoid_beside_its_own_image():
    owner, shared = SHARED
    images, texts = _unit(4, 8), _unit(5, 8)
    bias = torch.tensor(-3.0, dtype=torch.float64)
    raw = (SCALE * texts @ images.T + bias).tolist()
    expected = 0.0
    for t, own in enumerate(owner.tolist()):
        row = math.log1p(math.exp(-raw[t][own]))
        row += sum(math.log1p(math.exp(raw[t][p])) for p in range(4) if not FITTING[t][p])
        expected += row / owner.tolist().count(own) / 4
    loss = siglip_loss(images, texts, owner, SCALE, bias, shared)
    assert loss.item() == pytest.approx(expected, 1e-12)


def test_a_shared_text_is_no_negative_of_siblings():
    owner, shared = SHARED
    texts = _unit(5, 8)
    raw = (SCALE * texts @ texts.T).tolist()
    # Only image 0 has siblings; caption 2 has the text of one of them.
    others = [sum(math.exp(raw[one][t]) for t in (3, 4)) for one in (0, 1)]
    positive = math.exp(raw[0][1])
    expected = sum(-math.log(positive / (positive + other)) for other in others) / 2
    assert text_pair_loss(texts, owner, SCALE, shared).item() == pytest.approx(expected, 1e-12)


@given(batches)
def test_different_texts_change_no_bit(owner):
    images, texts = _unit(4, 8), _unit(len(owner), 8)
    numbers = torch.randperm(len(owner)) - 3
    assert _losses(images, texts, owner) == _losses(images, texts, owner, numbers)


def test_where_all_captions_are_one_text_nothing_is_wrong():
    """A loss of 0 with gradients of 0, not NaN; the sigmoid still draws pairs together."""
    owner = torch.tensor([0, 0, 1, 2, 3])
    images, texts = _unit(4, 8).requires_grad_(), _unit(5, 8).requires_grad_()
    loss, sigmoid, pairs = _losses(images, texts, owner, torch.zeros(5, dtype=torch.long))
    assert (loss.item(), pairs.item()) == (0, 0)
    for each in (loss, pairs, sigmoid):
        for gradient in torch.autograd.grad(each, (images, texts), materialize_grads=True):
            assert torch.isfinite(gradient).all()


@given(batches)
def test_text_pairs_equal_the_loss_written_out_one_by_one(owner):
    texts = _unit(len(owner), 8)
    logits, owners = (SCALE * texts @ texts.T).tolist(), owner.tolist()
    captions = range(len(owners))
    by_image = {}
    for one in captions:
        others = sum(math.exp(logits[one][t]) for t in captions if owners[t] != owners[one])
        each = [
            -math.log(math.exp(logits[one][t]) / (math.exp(logits[one][t]) + others))
            for t in captions
            if owners[t] == owners[one] and t != one
        ]
        if each:
            by_image.setdefault(owners[one], []).append(sum(each) / len(each))
    means = [sum(values) / len(values) for values in by_image.values()]
    expected = sum(means) / len(means) if means else 0.0
    assert text_pair_loss(texts, owner, SCALE).item() == pytest.approx(expected, 1e-9, 1e-12)


@given(batches)
def test_sigmoid_equals_the_loss_written_out_one_by_one(owner):
    images, texts = _unit(4, 8), _unit(len(owner), 8)
    bias = torch.tensor(-3.0, dtype=torch.float64)
    logits, owners = (SCALE * texts @ images.T + bias).tolist(), owner.tolist()
    expected = sum(
        math.log1p(math.exp(-x if owners[t] == p else x)) / owners.count(owners[t]) / 4
        for t, row in enumerate(logits)
        for p, x in enumerate(row)
    )
    loss = siglip_loss(images, texts, owner, SCALE, bias)
    assert loss.item() == pytest.approx(expected, 1e-12)


def test_a_caption_given_twice_changes_no_sigmoid_loss():
    images, texts, owner = _unit(3, 8), _unit(3, 8), torch.tensor([0, 1, 2])
    bias = torch.tensor(-3.0, dtype=torch.float64)
    once = siglip_loss(images, texts, owner, SCALE, bias)
    twice = siglip_loss(images, texts[[0, 1, 1, 2]], owner[[0, 1, 1, 2]], SCALE, bias)
    assert twice.item() == pytest.approx(once.item(), 1e-12)


def test_without_siblings_text_pairs_are_zero_with_a_graph():
    for texts in (_unit(3, 8), _unit(1, 8), _unit(0, 8)):
        texts.requires_grad_()
        loss = text_pair_loss(texts, torch.arange(len(texts)), SCALE)
        assert loss.item() == 0
        loss.backward()
        assert torch.equal(texts.grad, torch.zeros_like(texts))


def test_captions_of_one_image_alone_have_finite_gradients():
    images, texts = _unit(1, 8), _unit(3, 8)
    for loss in _losses(images, texts.requires_grad_(), torch.zeros(3, dtype=torch.long)):
        (gradient,) = torch.autograd.grad(loss, texts, retain_graph=True)
        assert gradient.isfinite().all()


def test_every_loss_keeps_its_dtype():
    owner = torch.tensor([0, 0, 1, 2])
    for dtype in (torch.float32, torch.float64):
        images, texts = _unit(3, 8).to(dtype), _unit(4, 8).to(dtype)
        assert {loss.dtype for loss in _losses(images, texts, owner)} == {dtype}


def test_gradients_are_those_of_finite_differences():
    owner = torch.tensor([0, 0, 1, 2, 2, 2])
    inputs = (_unit(3, 4).requires_grad_(), _unit(6, 4).requires_grad_())
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
    gradcheck = torch.autograd.gradcheck
    assert gradcheck(lambda i, t, s: contrastive_loss(i, t, owner, s), (*inputs, scale))
    assert gradcheck(lambda i, t, s, b: siglip_loss(i, t, owner, s, b), (*inputs, scale, bias))
    assert gradcheck(lambda t, s: text_pair_loss(t, owner, s), (inputs[1], scale))


def test_soft_targets_at_temperature_one_are_the_sources_formula():
    """By hand: softmax of the mean similarity, both ways, the gradient through the targets."""
    torch.manual_seed(0)
    image = F.normalize(torch.randn(5, 8, dtype=torch.float64), dim=1).requires_grad_()
    text = F.normalize(torch.randn(5, 8, dtype=torch.float64), dim=1).requires_grad_()
    loss = soft_target_loss(image, text, torch.arange(5), torch.tensor(1.0))
    logits = text @ image.T
    targets = torch.softmax((image @ image.T + text @ text.T) / 2, -1)
    by_hand = (
        (-targets * torch.log_softmax(logits, -1)).sum(1)
        + (-targets.T * torch.log_softmax(logits.T, -1)).sum(1)
    ) / 2
    assert torch.allclose(loss, by_hand.mean())
    mine = torch.autograd.grad(loss, [image, text], retain_graph=True)
    theirs = torch.autograd.grad(by_hand.mean(), [image, text])
    assert all(map(torch.allclose, mine, theirs))


def test_soft_targets_at_a_low_temperature_are_those_of_infonce():
    torch.manual_seed(0)
    image = F.normalize(torch.randn(6, 64), dim=1)
    text = F.normalize(image + 0.1 * torch.randn(6, 64), dim=1)
    scale = torch.tensor(100.0)
    soft = soft_target_loss(image, text, torch.arange(6), scale)
    assert soft.item() == pytest.approx(
        contrastive_loss(image, text, torch.arange(6), scale).item(), abs=1e-4
    )


def test_two_captions_of_one_image_are_two_pairs_in_the_soft_loss():
    torch.manual_seed(0)
    image, text = F.normalize(torch.randn(2, 4), dim=1), F.normalize(torch.randn(3, 4), dim=1)
    owner, scale = torch.tensor([0, 1, 0]), torch.tensor(10.0)
    assert soft_target_loss(image, text, owner, scale) == pytest.approx(
        soft_target_loss(image[owner], text, torch.arange(3), scale).item()
    )
