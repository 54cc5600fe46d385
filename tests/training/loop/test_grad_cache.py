"""Cached gradients equal plain ones for any chunks."""

from contextlib import contextmanager
from functools import partial

import pytest
import torch
from support.ranks import TEXTS, SmallEncoder, batch, split_chunks
from torch import nn
from vireo_training.loop.grad_cache import cached_backward
from vireo_training.loop.loss import contrastive_loss, siglip_loss

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def loss_of(model, owner, image, text):
    scale = model.log_logit_scale.exp()
    if model.logit_bias is None:
        return contrastive_loss(image, text, owner, scale, TEXTS)
    return siglip_loss(image, text, owner, scale, model.logit_bias, TEXTS)


def chunks_of(dtype, size):
    images, input_ids, owner = batch()
    return split_chunks(images.to(dtype), input_ids, owner, size), owner


def plain(model, chunks, owner):
    """The same embeddings with one graph over all chunks."""
    embeddings = [model(*chunk) for chunk in chunks]
    result = loss_of(model, owner, *(torch.cat(e) for e in zip(*embeddings, strict=True)))
    result.backward()
    return result.detach()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_the_gradient_is_the_plain_one(dtype, size, dropout, loss):
    expected, model = (SmallEncoder(loss, dropout).to(dtype) for _ in range(2))
    chunks, owner = chunks_of(dtype, size)
    torch.manual_seed(1)
    wanted = plain(expected, chunks, owner)
    following = torch.rand(1)
    torch.manual_seed(1)
    got = cached_backward(model, chunks, partial(loss_of, model, owner))
    # The next numbers are those that follow without a second draw.
    assert torch.equal(torch.rand(1), following)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=0)
    assert got.grad_fn is None
    gradients = model.gradients()
    assert "log_logit_scale" in gradients
    for name, gradient in expected.gradients().items():
        error = (gradients[name] - gradient).norm() / gradient.norm()
        assert error < tolerance, name


def test_without_dropout_chunks_make_no_difference():
    model, other = (SmallEncoder().double() for _ in range(2))
    images, input_ids, owner = batch()
    whole = plain(model, [(images, input_ids)], owner)
    chunks, _ = chunks_of(torch.float64, 3)
    loss = cached_backward(other, chunks, partial(loss_of, other, owner))
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(other.gradients(), model.gradients())


def test_gradients_are_added_to_those_there_are():
    model = SmallEncoder().double()
    chunks, owner = chunks_of(torch.float64, 3)
    cached_backward(model, chunks, partial(loss_of, model, owner))
    once = model.gradients()
    cached_backward(model, chunks, partial(loss_of, model, owner))
    torch.testing.assert_close(model.gradients(), {n: 2 * g for n, g in once.items()})


def test_a_scaled_loss_scales_every_gradient_and_not_the_returned_loss():
    model, scaled = (SmallEncoder("siglip").double() for _ in range(2))
    chunks, owner = chunks_of(torch.float64, 3)
    loss = cached_backward(model, chunks, partial(loss_of, model, owner))
    same = cached_backward(
        scaled, chunks, partial(loss_of, scaled, owner), scale=lambda loss: loss * 1024
    )
    assert same == loss
    expected = {name: 1024 * gradient for name, gradient in model.gradients().items()}
    torch.testing.assert_close(scaled.gradients(), expected)


def test_running_statistics_move_once_a_chunk():
    class Normed(SmallEncoder):
        def __init__(self):
            super().__init__()
            self.image.append(nn.BatchNorm1d(8))

    expected, model = (Normed().double() for _ in range(2))
    chunks, owner = chunks_of(torch.float64, 3)
    plain(expected, chunks, owner)
    cached_backward(model, chunks, partial(loss_of, model, owner))
    buffers = dict(model.named_buffers())
    assert buffers["image.4.num_batches_tracked"] == len(chunks) == 3
    torch.testing.assert_close(buffers, dict(expected.named_buffers()))
    # Each chunk is normalised by its own images in both passes.
    torch.testing.assert_close(model.gradients(), expected.gradients())


def test_gradients_are_averaged_over_ranks_in_the_last_chunk_only():
    model = SmallEncoder()
    inside = [False]
    arrivals = {"text.2.weight": [], "log_logit_scale": []}

    @contextmanager
    def no_sync():
        inside[0] = True
        yield
        inside[0] = False

    for name, seen in arrivals.items():
        # DistributedDataParallel waits for these hooks.
        model.get_parameter(name).register_post_accumulate_grad_hook(
            lambda _, seen=seen: seen.append(inside[0])
        )
    chunks, owner = chunks_of(torch.float32, 3)
    cached_backward(model, chunks, partial(loss_of, model, owner), no_sync=no_sync)
    assert arrivals == {"text.2.weight": [True, True, False], "log_logit_scale": [False]}


def test_every_forward_pass_runs_in_a_fresh_autocast():
    """Weights are cast again for the second pass, or they would get no gradient."""
    model, other = SmallEncoder(), SmallEncoder()
    chunks, owner = chunks_of(torch.float32, 3)
    autocast = partial(torch.autocast, "cpu", torch.bfloat16)
    cached_backward(model, chunks, partial(loss_of, model, owner), autocast=autocast)
    plain(other, chunks, owner)
    for name, gradient in other.gradients().items():
        similarity = torch.cosine_similarity(
            model.gradients()[name].flatten(), gradient.flatten(), 0
        )
        assert similarity > 0.98, name


def test_a_frozen_tower_and_an_unused_one_are_no_obstacle():
    model = SmallEncoder().double()
    model.image.requires_grad_(False)
    chunks, owner = chunks_of(torch.float64, 3)
    cached_backward(model, chunks, partial(loss_of, model, owner))
    assert not any("image" in name for name in model.gradients())
    assert model.text[2].weight.grad.abs().max() > 0
    model.zero_grad()
    cached_backward(model, chunks, lambda image, text: text.sum())
    assert model.text[2].weight.grad.abs().max() > 0
