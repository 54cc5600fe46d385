"""Losses over two real processes, held to one process and to open_clip."""

import pytest
import torch
from support.ranks import (
    LOSSES,
    SmallEncoder,
    batch,
    equal_batch,
    everything,
    open_clip_losses,
    run_ranks,
    whole_loss,
)
from vireo_training.loop.gather import gather_rows
from vireo_training.loop.loss import contrastive_loss, siglip_loss


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return run_ranks(everything, tmp_path_factory.mktemp("ranks"))


def close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def one_process(loss):
    """The loss of the whole batch, and the gradients of all parameters."""
    model = SmallEncoder(loss).double()
    images, input_ids, owner = batch()
    result = whole_loss(loss, model, *model(images, input_ids), owner)
    result.backward()
    return result.detach(), model.gradients()


def test_alone_a_batch_is_itself():
    rows = torch.zeros(2, 3)
    assert gather_rows(rows) is rows


def test_rows_come_in_the_order_of_ranks_and_gradients_go_back_summed(ranks):
    for rank in ranks:
        assert rank["gather"]["rows"][:, 0].tolist() == [1, 1, 1, 2, 2]
        assert rank["gather"]["texts"] == 4
        assert rank["gather"]["owner"].tolist() == [0, 1, 3, 4]
    assert ranks[0]["gather"]["gradient"][:, 0].tolist() == [11, 22, 33]
    assert ranks[1]["gather"]["gradient"][:, 0].tolist() == [44, 55]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("way", ["plain", "cached"])
def test_two_ranks_train_as_one(ranks, loss, way):
    """The ranks have different numbers of images, captions and chunks."""
    expected, gradients = one_process(loss)
    assert all(gradient.abs().max() > 0 for name, gradient in gradients.items()
               if loss != "text_pairs" or "image" not in name)  # fmt: skip
    for rank in ranks:
        close(rank[way][loss]["loss"], expected, 1e-12)
        close(rank[way][loss]["gradients"], gradients, 1e-10)


def test_ranks_stay_one_model_over_several_steps(ranks):
    start = SmallEncoder("siglip").double().state_dict()
    for name, value in ranks[0]["steps"].items():
        assert torch.equal(value, ranks[1]["steps"][name])
        assert not torch.equal(value, start[name])


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_two_ranks_equal_open_clip(ranks, loss):
    for rank in ranks:
        theirs, ours = rank["open_clip"][loss]
        close(ours, theirs, 1e-6)


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_one_process_equals_open_clip(loss, rows):
    module = open_clip_losses()
    numbers = torch.arange(rows)
    outcomes = []
    for ours in (False, True):
        image, text = (vectors[:rows].clone().requires_grad_() for vectors in equal_batch())
        scale = torch.tensor(12.0, dtype=torch.float64, requires_grad=True)
        bias = torch.tensor(-9.0, dtype=torch.float64, requires_grad=True)
        if loss == "infonce":
            inputs = [image, text, scale]
            result = (
                contrastive_loss(image, text, numbers, scale) if ours
                else module.ClipLoss()(image, text, scale)
            )  # fmt: skip
        else:
            inputs = [image, text, scale, bias]
            result = (
                siglip_loss(image, text, numbers, scale, bias) if ours
                else module.SigLipLoss()(image, text, scale, bias)
            )  # fmt: skip
        outcomes.append([result.detach(), *torch.autograd.grad(result, inputs)])
    close(outcomes[1], outcomes[0], 1e-6)
