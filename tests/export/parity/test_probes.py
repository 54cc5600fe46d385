import numpy as np
import pytest
from vireo_client.text.pipeline import TextPath
from vireo_export.parity.probes import ROWS, batch_shapes, text_probes


@pytest.mark.parametrize("captions", [["một"], ["một con chó chạy trên bãi cỏ"] * 3])
def test_buckets_longer_than_all_captions_get_inputs(bundle, captions):
    spec = bundle.config.text
    probes = text_probes(TextPath.from_bundle(bundle), captions, spec)
    assert list(probes) == list(spec.buckets)
    for bucket, ids in probes.items():
        assert ids.dtype == np.int32
        assert ids.shape[1] == bucket
        assert 0 < len(ids) <= ROWS
        assert (ids != spec.pad_id).any(axis=1).all()
    assert len(probes[spec.buckets[-1]]) > 0


def test_each_bucket_is_filled_with_rows_too_long_for_the_shorter_one(bundle, test_records):
    spec = bundle.config.text
    captions = [c for record in test_records for c in record.captions]
    probes = text_probes(TextPath.from_bundle(bundle), captions, spec)
    for shorter, bucket in zip((0, *spec.buckets), spec.buckets):  # noqa: B905
        assert len(probes[bucket]) == ROWS
        lengths = (probes[bucket] != spec.pad_id).sum(axis=1)
        assert (lengths > shorter).all()


def test_rows_run_one_by_one_and_all_at_once():
    assert batch_shapes(np.zeros((16, 8))) == (1, 16)
    assert batch_shapes(np.zeros((1, 8))) == (1,)
