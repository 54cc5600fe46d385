import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vireo_training.config import TextAugmentation
from vireo_training.data.batches import BatchMaker, batches_ahead, plan_epoch, short_rows
from vireo_training.data.captions import Captions, Ragged

IMAGES, CAPTIONS = 12, 3


def _no_augmentation(pixels, rng):
    return pixels


def _maker(**changes):
    """Image n is full of n; its caption c is the ids [0, 100 n + c, 2], bare 50 more."""
    plain = [[0, 100 * n + c, 2] for n in range(IMAGES) for c in range(CAPTIONS)]
    bare = [[0, v + 50, v + 50, 2] for _, v, _ in plain]
    values = {
        "images": np.arange(IMAGES, dtype=np.uint8).repeat(3 * 4 * 4).reshape(-1, 3, 4, 4),
        "captions": Captions.of(
            [CAPTIONS] * IMAGES, [Ragged.of(plain), Ragged.of(bare)], np.arange(len(plain))
        ),
        "others": None,
        "captions_per_picture": 2,
        "chunk": 100,
        "pad_id": 1,
        "text_augment": TextAugmentation(bare=0.5),
        "augment": _no_augmentation,
        "seed": 0,
    }
    return BatchMaker(**(values | changes))


def _others(groups=7):
    rows = [[0, 5000 + 10 * g + c, 2] for g in range(groups) for c in range(4)]
    return Captions.of([4] * groups, [Ragged.of(rows), Ragged.of(rows)], -1 - np.arange(len(rows)))


def _seen(batch):
    """The image that each caption of all chunks belongs to by its ids, and by its owner."""
    images = torch.cat([image for image, *_ in batch.chunks])
    ids = [int(row[1]) for _, *texts in batch.chunks for part in texts for row in part]
    return images[:, 0, 0, 0].tolist(), ids, batch.owner.tolist()


def test_an_epoch_shows_every_image_once_with_its_own_captions():
    make, shown, variants = _maker(), [], []
    plan = plan_epoch(np.random.default_rng(0).permutation(IMAGES), 4)
    for batch in batches_ahead(make, 1, plan):
        images, ids, owner = _seen(batch)
        assert len(ids) == 8
        assert [i // 100 for i in ids] == [images[o] for o in owner]
        assert len({(i // 100, i % 50) for i in ids}) == 8  # no caption twice
        shown += images
        variants += [i % 100 >= 50 for i in ids]
    assert sorted(shown) == list(range(IMAGES))
    assert 0 < sum(variants) < len(variants)


def test_a_batch_can_be_made_by_itself():
    plan = plan_epoch(np.arange(IMAGES), 4)
    whole = list(batches_ahead(_maker(), 3, plan))
    (last,) = batches_ahead(_maker(), 3, plan, first=2)
    assert len(whole) == 3
    for a, b in zip(whole[2].chunks[0], last.chunks[0], strict=True):
        assert torch.equal(a, b)
    other = next(batches_ahead(_maker(), 4, plan, first=2))
    assert not torch.equal(other.owner, last.owner) or not all(
        torch.equal(a, b) for a, b in zip(other.chunks[0], last.chunks[0], strict=True)
    )


@pytest.mark.parametrize("chunk", [100, 3])
def test_devices_share_a_batch_and_know_it_whole(chunk):
    rows = np.arange(8)
    others = _others()
    parts = [_maker(devices=2, device=d, chunk=chunk, others=others)(1, 0, rows) for d in range(2)]
    assert torch.equal(parts[0].owner, parts[1].owner)
    images, ids = [], []
    for part in parts:
        assert len(part.chunks) == (1 if chunk == 100 else 2)
        mine = _seen(part)
        images += mine[0]
        ids += mine[1]
    owner = parts[0].owner.tolist()
    assert images == list(range(8))
    assert len(ids) == len(owner)
    assert torch.equal(parts[0].texts, parts[1].texts)
    # A caption's number does not depend on the variant that was drawn.
    assert parts[0].texts.tolist() == [
        CAPTIONS * (i // 100) + i % 50 if i < 5000 else -1 - (4 * (i % 5000 // 10) + i % 10)
        for i in ids
    ]
    groups = {}
    for i, o in zip(ids, owner, strict=True):
        if o < 8:
            assert i // 100 == images[o]
        else:
            groups.setdefault(o, set()).add(i)
    # Seven groups, two captions of each, never mixed.
    assert sorted(groups) == list(range(8, 15))
    assert all(len(g) == 2 and len({i // 10 for i in g}) == 1 for g in groups.values())


def test_features_of_a_frozen_tower_are_drawn_among_its_views():
    features = np.arange(IMAGES * 5, dtype=np.float32).reshape(IMAGES, 5, 1)
    make = _maker(images=features)
    views = set()
    for epoch in range(9):
        ((images, *_),) = make(epoch, 0, np.arange(6)).chunks
        assert images.dtype == torch.float32
        assert (images[:, 0] // 5).tolist() == list(range(6))
        views |= set((images[:, 0] % 5).tolist())
    assert views == set(range(5))


def test_an_error_in_a_batch_reaches_the_loop():
    def broken(pixels, rng):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(batches_ahead(_maker(augment=broken), 1, plan_epoch(np.arange(IMAGES), 4)))


@given(
    order=st.integers(1, 40).flatmap(
        lambda count: st.lists(st.integers(0, count - 1), min_size=count, max_size=count)
    ),
    size=st.integers(2, 6),
)
@settings(max_examples=200)
def test_no_batch_holds_an_image_twice_and_none_is_drawn_too_often(order, size):
    size = min(size, len(order))
    batches = plan_epoch(np.array(order), size)
    assert len(batches) == len(order) // size  # an epoch is as long as another
    drawn = np.bincount(order, minlength=len(order))
    used = np.zeros(len(order), dtype=int)
    for batch in batches:
        assert len(set(batch.tolist())) == size == len(batch)
        used[batch] += 1
    # Images that were not drawn stand in only for repeats that find no place.
    assert (used <= np.maximum(drawn, 1)).all()
    assert used[drawn == 0].sum() <= (drawn - used).clip(min=0).sum()


@given(st.lists(st.integers(2, 200), min_size=1, max_size=40).map(sorted))
def test_short_captions_go_apart_where_it_spares_padding(lengths):
    def padded(cut):
        parts = [part for part in (lengths[:cut], lengths[cut:]) if part]
        return sum(len(part) * part[-1] for part in parts)

    cut, least = short_rows(lengths), min(map(padded, range(len(lengths))))
    assert padded(cut) == (least if least <= 0.75 * padded(0) else padded(0))


def test_long_captions_do_not_pad_short_ones():
    rows = [[0] * (3 if n < 10 else 90) for n in range(IMAGES * CAPTIONS)]
    captions = Captions.of([CAPTIONS] * IMAGES, [Ragged.of(rows)], np.arange(len(rows)))
    make = _maker(captions=captions, text_augment=TextAugmentation())
    ((_, short, long),) = make(0, 0, np.arange(IMAGES)).chunks
    assert short.shape[1] == 3
    assert long.shape[1] == 90
    assert len(short) + len(long) == 2 * IMAGES
