"""Image-to-image evaluation in DISC21's layout."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from vireo_client.embedder import Embedder
from vireo_client.errors import DataError
from vireo_training.evaluation.image_pairs import (
    POOLED,
    _micro_average_precision,
    evaluate_images,
    read_matches,
)


class PixelTowers:
    """Gives images a vector of their own colours."""

    name, max_batch_size = "pixels", 4

    def encode_image(self, pixels):
        coarse = pixels.reshape(len(pixels), 3, -1)[:, :, ::7].reshape(len(pixels), -1) - 127.5
        return (coarse / np.linalg.norm(coarse, axis=1, keepdims=True)).astype(np.float32)

    def close(self):
        pass


@pytest.fixture
def embedder(bundle):
    return Embedder(bundle, PixelTowers())


def test_copies_are_found_and_distractors_count_in_the_pool(embedder, photo, tmp_path):
    for number in range(12):
        photo(f"references/R{number:02}.png", seed=number)
    lines = ["query_id,reference_id"]
    (tmp_path / "queries").mkdir()
    for number in range(4):
        shutil.copy(tmp_path / f"references/R{number:02}.png", tmp_path / f"queries/Q{number}.png")
        lines.append(f"Q{number},R{number:02}")
    photo("queries/Q9.png", seed=99)
    lines.append("Q9,")
    (tmp_path / "gt.csv").write_text("\n".join(lines))
    folders = tmp_path / "queries", tmp_path / "references"
    report = evaluate_images(embedder, *folders, tmp_path / "gt.csv", (1, 5, 30))
    assert (report["queries"], report["distractors"], report["references"]) == (5, 1, 12)
    assert report["image_to_image"]["queries"] == 4
    assert report["image_to_image"]["recall_at_1"] == 1
    assert report["image_to_image"]["mean_average_precision_at_5"] == 1
    assert report["chance_image_to_image"]["recall_at_1"] == pytest.approx(1 / 12)
    assert report["micro_average_precision"] == pytest.approx(1)

    (tmp_path / "gt.csv").write_text("Q0.png,R05.png\n")
    report = evaluate_images(embedder, *folders, tmp_path / "gt.csv")
    assert report["image_to_image"]["recall_at_1"] == 0
    (tmp_path / "gt.csv").write_text("a,b,c\n")
    with pytest.raises(DataError, match="3 field"):  # before anything is embedded
        evaluate_images(None, *folders, tmp_path / "gt.csv")
    (tmp_path / "gt.csv").write_text("Q0,R99\n")
    with pytest.raises(DataError, match="names R99, which is no readable image of"):
        evaluate_images(embedder, *folders, tmp_path / "gt.csv")


def test_the_pooled_precision_equals_scikit_learns():
    rng = np.random.default_rng(0)
    queries, references = rng.standard_normal((2, 20, 5)).astype(np.float32)
    matches = {(row, int(other)) for row, other in enumerate(rng.integers(20, size=15))}
    scores = queries @ references.T
    near = np.argsort(-scores, axis=1)[:, :POOLED]
    right = [(r, int(c)) in matches for r in range(20) for c in near[r]]
    expected = average_precision_score(right, np.take_along_axis(scores, near, 1).ravel())
    mine = _micro_average_precision(queries, references, matches)
    assert mine == pytest.approx(expected * sum(right) / len(matches))
    assert _micro_average_precision(queries, references, {(0, 99)}) == 0


@pytest.mark.parametrize(
    ("text", "message"), [("a,b,c\n", r":1: 3 field"), ("a,\n", "names no query with a reference")]
)
def test_a_table_that_holds_no_matches_is_an_error(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_matches(tmp_path / "x.csv")
