from itertools import combinations

import numpy as np
import pytest
import torch
from vireo_training.config import ImageAugmentation
from vireo_training.data.augment import _rectangle, make_augmentation
from vireo_training.models.torchvision_ops import ensure_torchvision

EVERYTHING = ImageAugmentation(crop=0.5, flip=0.5, rotate=10, jitter=0.3, gray=0.3, erase=0.3)


def photos(count, side):
    """Smooth images without symmetry."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 255).byte()


def only(size=32, **settings):
    return make_augmentation(ImageAugmentation(**settings), size)


def test_nothing_to_do_is_nothing_done():
    pixels = photos(2, 32)
    assert only()(pixels, np.random.default_rng(0)) is pixels


def test_views_follow_from_the_generator_alone():
    pixels, augment = photos(8, 40), make_augmentation(EVERYTHING, 32)
    before = pixels.clone()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = augment(pixels, np.random.default_rng(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(pixels, before)
    torch.manual_seed(2)
    assert torch.equal(augment(pixels, np.random.default_rng(3)), one)
    assert not torch.equal(augment(pixels, np.random.default_rng(4)), one)
    assert one.shape == (8, 3, 32, 32)
    assert one.dtype == torch.uint8


@pytest.mark.parametrize(
    "names", [(n,) for n in EVERYTHING.model_dump()] + [*combinations(EVERYTHING.model_dump(), 2)]
)
def test_each_change_and_each_pair_keeps_shape_and_type(names):
    settings = EVERYTHING.model_dump(include=set(names))
    side = 40 if "crop" in names else 32
    views = only(**settings)(photos(16, side), np.random.default_rng(0))
    assert views.shape == (16, 3, 32, 32)
    assert views.dtype == torch.uint8
    assert len({view.numpy().tobytes() for view in views}) > 1
    stored = photos(16, side)[:, :, :32, :32]
    assert not torch.equal(views, stored)


def test_a_rate_of_one_changes_every_image_and_of_nearly_none_none():
    pixels = photos(8, 32)
    rng = np.random.default_rng(0)
    assert torch.equal(only(flip=1)(pixels, rng), pixels.flip(-1))
    assert torch.equal(only(flip=1e-12)(pixels, rng), pixels)
    gray = only(gray=1)(pixels, rng)
    assert (gray[:, 0] == gray[:, 1]).all()
    assert (gray[:, 1] == gray[:, 2]).all()
    assert not torch.equal(gray, pixels)


def test_a_rectangle_is_blotted_out_and_the_rest_left():
    pixels = photos(64, 32).clamp(min=1)
    views = only(erase=1)(pixels, np.random.default_rng(0))
    gone = (views == 0).all(dim=1)
    for view, image, blot in zip(views, pixels, gone, strict=True):
        rows, columns = blot.any(1).sum(), blot.any(0).sum()
        assert blot.sum() == rows * columns > 0
        assert torch.equal(view[:, ~blot], image[:, ~blot])
    assert 0.02 <= gone.float().mean(dim=(1, 2)).mean() <= 0.33


def test_colours_change_within_their_strength():
    pixels = torch.full((200, 3, 4, 4), 100, dtype=torch.uint8)
    views = only(4, jitter=0.2)(pixels, np.random.default_rng(0))
    # Contrast and saturation change nothing in one grey: what is left is the brightness.
    # Each of the three rounds down.
    assert views.min() >= 77
    assert views.max() <= 120
    assert views.float().std() > 5


def test_images_turn_by_no_more_than_the_largest_angle():
    pixels = torch.zeros(50, 3, 65, 65, dtype=torch.uint8)
    pixels[:, :, 32, 32:] = 255  # a hand that points to the right
    views = only(65, rotate=30)(pixels, np.random.default_rng(0))
    tips = [view[0, :, 60].float().argmax().item() - 32 for view in views]
    angles = [np.degrees(np.arctan2(-tip, 28)) for tip in tips]
    assert max(map(abs, angles)) <= 32
    assert min(angles) < -20
    assert max(angles) > 20


def test_crops_keep_at_least_their_share_wherever_they_fit():
    rng = np.random.default_rng(0)
    boxes = np.array([_rectangle(rng, 256, area=(0.3, 1.0), ratio=4 / 3) for _ in range(4000)])
    top, left, height, width = boxes.T
    share = height * width / 256**2
    assert share.min() > 0.29
    assert share.max() > 0.95
    assert ((top + height <= 256) & (left + width <= 256) & (top >= 0) & (left >= 0)).all()
    ratio = width / height
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    assert (top == 0).any()
    assert (top + height == 256).any()


def test_rectangles_lie_as_often_as_they_stand():
    rng = np.random.default_rng(0)
    boxes = np.array([_rectangle(rng, 256, area=(0.02, 0.33), ratio=3.3) for _ in range(4000)])
    assert abs((boxes[:, 3] > boxes[:, 2]).mean() - 0.5) < 0.04


def test_crops_are_distributed_as_torchvisions():
    ensure_torchvision()
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    image = torch.empty(3, 256, 256)
    theirs = np.array(
        [RandomResizedCrop.get_params(image, [0.4, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    )
    ours = np.array([_rectangle(rng, 256, area=(0.4, 1.0), ratio=4 / 3) for _ in range(4000)])
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        difference = np.quantile(ours, quantile, axis=0) - np.quantile(theirs, quantile, axis=0)
        assert np.abs(difference).max() <= 6, quantile
