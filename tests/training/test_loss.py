import pytest
import torch
import torch.nn.functional as F
from vireo_training.loss import contrastive_loss


def _unit(*shape):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


SCALE = torch.tensor(14.0, dtype=torch.float64)


def test_one_caption_a_picture_is_clips_loss():
    images, texts = _unit(9, 16), _unit(9, 16)
    logits = SCALE * images @ texts.T
    labels = torch.arange(9)
    expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    assert contrastive_loss(images, texts, labels, SCALE) == pytest.approx(expected.item(), 1e-12)


def test_several_captions_equal_the_loss_written_out_one_by_one():
    images, texts = _unit(4, 8), _unit(7, 8)
    picture = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    logits = (SCALE * texts @ images.T).tolist()
    import math

    to_image = sum(
        -math.log(math.exp(logits[t][p]) / sum(math.exp(x) for x in logits[t]))
        for t, p in enumerate(picture.tolist())
    ) / len(picture)
    to_text = 0.0
    for p in range(4):
        own = [t for t in range(7) if picture[t] == p]
        others = sum(math.exp(logits[t][p]) for t in range(7) if picture[t] != p)
        each = [-math.log(math.exp(logits[t][p]) / (math.exp(logits[t][p]) + others)) for t in own]
        to_text += sum(each) / len(each) / 4
    loss = contrastive_loss(images, texts, picture, SCALE)
    assert loss.item() == pytest.approx((to_image + to_text) / 2, 1e-12)


def test_a_pictures_own_captions_are_not_its_negatives():
    """With one picture in the batch nothing is wrong with any of its captions: no loss at all."""
    loss = contrastive_loss(_unit(1, 8), _unit(5, 8), torch.zeros(5, dtype=torch.long), SCALE)
    assert loss.item() == 0


def test_the_right_pairs_have_the_lowest_loss():
    images = _unit(6, 32)
    labels = torch.arange(6)
    right = contrastive_loss(images, images, labels, SCALE)
    assert right < contrastive_loss(images, images.roll(1, 0), labels, SCALE)
