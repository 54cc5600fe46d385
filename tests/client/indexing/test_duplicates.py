import shutil

import numpy as np
import pytest
from support.small_index import new_image, unit, write_small_bundle
from vireo_client.index import IndexWriter
from vireo_client.indexing.duplicates import find_duplicates, find_near_duplicates


@pytest.fixture
def small_bundle(tmp_path):
    return write_small_bundle(tmp_path / "model_repository")


def _near(seed, other, share):
    vector = unit(seed) + share * unit(other)
    return vector / np.linalg.norm(vector)


def test_images_with_the_same_bytes_are_grouped(photos, index_source, tmp_path):
    for name in ("x", "y"):
        shutil.copy(photos / "a.png", photos / f"{name}.png")
    shutil.copy(photos / "b.png", photos / "z.png")
    index_source(photos)
    folder = photos.resolve()
    assert find_duplicates(tmp_path / "i") == [
        [str(folder / f"{name}.png") for name in names] for names in ("axy", "bz")
    ]


def test_images_that_look_alike_are_grouped_by_cosine(tmp_path, small_bundle):
    images = [new_image(f"/{seed}.jpg", seed) for seed in range(30)]
    images = [image._replace(sha256=f"{n:064d}") for n, image in enumerate(images)]
    # 1, 2 and 3 form a chain, of which the ends are further apart than the threshold.
    images[2] = images[2]._replace(embedding=_near(1, 90, 0.2))
    images[3] = images[3]._replace(embedding=_near(1, 90, 0.45))
    images[8] = images[8]._replace(embedding=unit(7))
    images[20] = images[20]._replace(embedding=unit(19), sha256=images[19].sha256)
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        for start in range(0, 30, 4):  # several segments, so that pairs lie across them
            writer.add(images[start : start + 4])
            writer.save()
    groups = find_near_duplicates(tmp_path / "i", small_bundle, 0.96)
    assert groups == [["/1.jpg", "/2.jpg", "/3.jpg"], ["/7.jpg", "/8.jpg"]]
    assert find_near_duplicates(tmp_path / "i", small_bundle, 0.9999) == [["/7.jpg", "/8.jpg"]]


def test_removed_images_are_no_duplicates(tmp_path, small_bundle):
    twins = [new_image(f"/{n}.jpg", 5)._replace(sha256=f"{n:064d}") for n in range(3)]
    with IndexWriter(tmp_path / "i", small_bundle) as writer:
        writer.add(twins)
        writer.save()
        writer.remove(["/1.jpg"])
        writer.save()
    assert find_near_duplicates(tmp_path / "i", small_bundle, 0.99) == [["/0.jpg", "/2.jpg"]]
